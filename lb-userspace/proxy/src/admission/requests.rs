//! How many requests, of a service or of a route: at once, in a time, and from one client in a time.
//!
//! Invariant: a request is under way for as long as its [`Admitted`] lives, which is until the last byte of its response.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::client_key;
use super::rate::{Bucket, Clients, Rate};
use crate::error::{Error, Kind};

/// What a client gets that asks too often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exceeded {
    /// Status 429 (RFC 6585 section 4), and when to come again.
    #[default]
    TooManyRequests,
    /// Status 503, and when to come again.
    Unavailable,
    /// Nothing: its connection is closed.
    Drop,
}

/// The limits, and what they are held against; of all workers of a service.
#[derive(Debug)]
pub struct RequestLimits {
    concurrent: Option<NonZeroU32>,
    rate: Option<Bucket>,
    per_client: Option<Clients>,
    exceeded: Exceeded,
    under_way: AtomicU32,
    started: Instant,
}

impl RequestLimits {
    /// At most `concurrent` requests at once, which is answered with 503; `rate` of them, and of each client
    /// `per_client`, which is answered as `exceeded` says.
    pub fn new(
        concurrent: Option<NonZeroU32>,
        rate: Option<Rate>,
        per_client: Option<Rate>,
        exceeded: Exceeded,
    ) -> Arc<Self> {
        Arc::new(Self {
            concurrent,
            rate: rate.map(Bucket::new),
            per_client: per_client.map(Clients::new),
            exceeded,
            under_way: AtomicU32::new(0),
            started: Instant::now(),
        })
    }

    /// Lets a request of `client` in, or says why not.
    pub(crate) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Admitted, Error> {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The client's own rate first, so that who asks too often takes nothing from the others.
        if let Some(clients) = &self.per_client {
            clients
                .take(client_key(client), now)
                .map_err(|wait| self.too_often("the client asks too often", wait))?;
        }
        if let Some(bucket) = &self.rate {
            bucket
                .take(now)
                .map_err(|wait| self.too_often("too many requests in this time", wait))?;
        }
        let Some(limit) = self.concurrent else {
            return Ok(Admitted(None));
        };
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(Some(Arc::clone(self)));
        if before < limit.get() {
            Ok(admitted)
        } else {
            let error = Error::new(Kind::Full, "as many requests as may be are under way");
            Err(error.retry_after(SOON))
        }
    }

    fn too_often(&self, why: &str, wait: u64) -> Error {
        let kind = match self.exceeded {
            Exceeded::TooManyRequests => Kind::RateLimited,
            Exceeded::Unavailable => Kind::Full,
            Exceeded::Drop => Kind::RateDropped,
        };
        Error::new(kind, why).retry_after(Duration::from_nanos(wait))
    }
}

/// When a place may be free again of those that are taken now.
const SOON: Duration = Duration::from_secs(1);

/// A request under way.
#[derive(Debug, Default)]
pub(crate) struct Admitted(Option<Arc<RequestLimits>>);

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(limits) = &self.0 {
            limits.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn hourly(requests: u32) -> Rate {
        let count = NonZeroU32::new(requests).unwrap();
        Rate::new(count, Duration::from_hours(1), count)
    }

    #[test]
    fn a_place_is_free_again_when_its_request_is_over() {
        let limits = RequestLimits::new(NonZeroU32::new(1), None, None, Exceeded::Drop);
        let first = limits.admit(CLIENT).unwrap();
        assert_eq!(limits.admit(CLIENT).unwrap_err().kind(), Kind::Full);
        drop(first);
        assert!(limits.admit(CLIENT).is_ok());
    }

    #[test]
    fn who_asks_too_often_takes_nothing_from_the_others() {
        let limits = RequestLimits::new(
            None,
            Some(hourly(4)),
            Some(hourly(2)),
            Exceeded::TooManyRequests,
        );
        let asks = |client: &str| {
            limits
                .admit(client.parse().unwrap())
                .map_err(|error| error.kind())
        };
        for _ in 0..2 {
            assert!(asks("192.0.2.1").is_ok());
        }
        for _ in 0..5 {
            assert_eq!(asks("192.0.2.1").unwrap_err(), Kind::RateLimited);
        }
        assert!(asks("192.0.2.2").is_ok());
        assert!(asks("192.0.2.3").is_ok());
        assert_eq!(
            asks("192.0.2.4").unwrap_err(),
            Kind::RateLimited,
            "the rate of all"
        );
    }

    #[test]
    fn what_a_client_gets_is_chosen() {
        for (exceeded, kind) in [
            (Exceeded::TooManyRequests, Kind::RateLimited),
            (Exceeded::Unavailable, Kind::Full),
            (Exceeded::Drop, Kind::RateDropped),
        ] {
            let limits = RequestLimits::new(None, Some(hourly(1)), None, exceeded);
            assert!(limits.admit(CLIENT).is_ok());
            assert_eq!(limits.admit(CLIENT).unwrap_err().kind(), kind);
        }
    }
}
