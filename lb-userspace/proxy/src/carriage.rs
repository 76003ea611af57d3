//! What the proxy tells whoever carries a client's bytes: that this connection carries bulk, or is about to.
//!
//! Some transports are good at many small exchanges, others at much of one. Which of them a connection is on, and whether
//! it can go over to another, is never known here: there is a word for it, which goes into traces. Invariant: it is told once for a connection, at the first reason there
//! is; an announced length is told before the first byte of what it announces is passed on, because then one side is silent. A
//! service without thresholds, and a connection whose carrier doesn't ask, cost the test of an `Option`.
//!
//! The streams of an HTTP/2 connection are told of as their connection. Not here: what is done about it.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use http::Method;
use http_body::SizeHint;

/// Whoever carries one client connection.
pub trait Carriage {
    /// The connection carries bulk. Called once at most, from within what serves the connection.
    fn bulk(&self, what: Bulk);

    /// Where the connection lives now, in a word for people.
    fn place(&self) -> &'static str;
}

/// What makes a connection bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// The head of a response announces so many bytes; nothing of it is written yet.
    Response(u64),
    /// The head of a request announces so many bytes; none of them was asked for yet.
    Upload(u64),
    /// So many bytes of unknown length have passed in one direction; of a relay, in both.
    Streamed(u64),
    /// So many bytes go with each response on average, and there were several; nothing of the last one is written yet.
    Repeated(u64),
    /// The connection stops being HTTP; the client waits for the word.
    Tunnel,
}

impl Bulk {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Response(_) => "response",
            Self::Upload(_) => "upload",
            Self::Streamed(_) => "streamed",
            Self::Repeated(_) => "repeated",
            Self::Tunnel => "tunnel",
        }
    }
}

/// From how many bytes on a service's connections carry bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkThresholds {
    /// Announced by the head of a response.
    pub response: u64,
    /// Announced by the head of a request.
    pub upload: u64,
    /// Passed on of a body of unknown length, or by a relay.
    pub streamed: u64,
    /// With each response on average: a connection that is kept pays for its move once.
    pub repeated: u64,
}

/// Responses of one connection from which on their average says something of the next one.
pub(crate) const SEVERAL: u64 = 4;

/// What one client connection carries, held against the thresholds of its service. Empty where nobody wants to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Freight(Option<Rc<Weighed>>);

struct Weighed {
    thresholds: BulkThresholds,
    carriage: Rc<dyn Carriage>,
    told: Cell<Option<Bulk>>,
    /// Responses, and the bytes that they announced, or that have passed of bodies of unknown length.
    responses: Cell<u64>,
    bytes: Cell<u64>,
}

impl Freight {
    /// Of a new connection.
    pub(crate) fn new(
        thresholds: Option<BulkThresholds>,
        carriage: Option<Rc<dyn Carriage>>,
    ) -> Self {
        let weighed = thresholds.zip(carriage).map(|(thresholds, carriage)| {
            Rc::new(Weighed {
                thresholds,
                carriage,
                told: Cell::new(None),
                responses: Cell::new(0),
                bytes: Cell::new(0),
            })
        });
        Self(weighed)
    }

    /// The response to a request with `method` will have a body of `size`; what comes of it goes through the meter.
    pub(crate) fn response(&self, method: &Method, size: &SizeHint) -> Meter {
        let Some(weighed) = self.untold() else {
            return Meter::default();
        };
        weighed.responses.set(weighed.responses.get() + 1);
        match announced(method, size) {
            None => Meter::of(weighed),
            Some(bytes) => {
                weighed.add(bytes);
                if weighed.thresholds.response <= bytes {
                    weighed.tell(Bulk::Response(bytes));
                } else if let Some(mean) = weighed.repeated() {
                    weighed.tell(Bulk::Repeated(mean));
                }
                Meter::default()
            }
        }
    }

    /// A request has a body of `size`; what comes of it goes through the meter.
    pub(crate) fn upload(&self, method: &Method, size: &SizeHint) -> Meter {
        let Some(weighed) = self.untold() else {
            return Meter::default();
        };
        match announced(method, size) {
            None => Meter::of(weighed),
            Some(bytes) => {
                if weighed.thresholds.upload <= bytes {
                    weighed.tell(Bulk::Upload(bytes));
                }
                Meter::default()
            }
        }
    }

    /// The connection is no longer HTTP.
    pub(crate) fn tunnel(&self) {
        if let Some(weighed) = self.untold() {
            weighed.tell(Bulk::Tunnel);
        }
    }

    /// For what a relay passes on.
    pub(crate) fn meter(&self) -> Meter {
        self.untold().map_or_else(Meter::default, Meter::of)
    }

    /// What the carrier was told, of this request or one before.
    pub(crate) fn told(&self) -> Option<Bulk> {
        self.0.as_ref()?.told.get()
    }

    /// Where the connection lives now, if it is one of those that may move.
    pub(crate) fn place(&self) -> Option<&'static str> {
        Some(self.0.as_ref()?.carriage.place())
    }

    fn untold(&self) -> Option<&Rc<Weighed>> {
        self.0
            .as_ref()
            .filter(|weighed| weighed.told.get().is_none())
    }
}

/// The length of a body, unless nobody knows it.
fn announced(method: &Method, size: &SizeHint) -> Option<u64> {
    // Outlook Anywhere announces a gibibyte in each direction, as a limit: its bodies last as long as the session, and
    // most sessions say little (MS-RPCH section 2.1.2).
    let is_session = matches!(method.as_str(), "RPC_IN_DATA" | "RPC_OUT_DATA");
    size.exact().filter(|_| !is_session)
}

impl Weighed {
    fn add(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// Bytes for each response so far, if they make the connection bulk.
    fn repeated(&self) -> Option<u64> {
        let is_several = SEVERAL <= self.responses.get();
        let mean = self.bytes.get().checked_div(self.responses.get());
        mean.filter(|&mean| is_several && self.thresholds.repeated <= mean)
    }

    fn tell(&self, what: Bulk) {
        if self.told.get().is_none() {
            self.told.set(Some(what));
            self.carriage.bulk(what);
        }
    }
}

impl fmt::Debug for Weighed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Weighed")
            .field("thresholds", &self.thresholds)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

/// Counts what passes of a body of unknown length, until it is bulk. Empty where nobody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Meter(Option<Counting>);

#[derive(Debug)]
struct Counting {
    weighed: Rc<Weighed>,
    bytes: u64,
}

impl Meter {
    fn of(weighed: &Rc<Weighed>) -> Self {
        Self(Some(Counting {
            weighed: Rc::clone(weighed),
            bytes: 0,
        }))
    }

    /// So many more are on their way.
    pub(crate) fn pass(&mut self, bytes: usize) {
        let Some(counting) = &mut self.0 else {
            return;
        };
        counting.bytes += bytes as u64;
        counting.weighed.add(bytes as u64);
        if counting.weighed.thresholds.streamed <= counting.bytes {
            counting.weighed.tell(Bulk::Streamed(counting.bytes));
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const THRESHOLDS: BulkThresholds = BulkThresholds {
        response: 100,
        upload: 200,
        streamed: 300,
        repeated: 50,
    };

    #[derive(Default)]
    struct Told(RefCell<Vec<Bulk>>);

    impl Carriage for Told {
        fn bulk(&self, what: Bulk) {
            self.0.borrow_mut().push(what);
        }

        fn place(&self) -> &'static str {
            "here"
        }
    }

    /// What is told of what `does` to a new connection's freight.
    fn check(does: impl FnOnce(&Freight), expected: &[Bulk]) {
        let told = Rc::new(Told::default());
        let carriage: Rc<dyn Carriage> = Rc::<Told>::clone(&told);
        does(&Freight::new(Some(THRESHOLDS), Some(carriage)));
        assert_eq!(*told.0.borrow(), expected);
    }

    fn sized(bytes: u64) -> SizeHint {
        SizeHint::with_exact(bytes)
    }

    #[test]
    fn an_announced_length_counts_from_its_threshold_on() {
        check(|f| drop(f.response(&Method::GET, &sized(99))), &[]);
        check(
            |f| drop(f.response(&Method::GET, &sized(100))),
            &[Bulk::Response(100)],
        );
        check(|f| drop(f.upload(&Method::PUT, &sized(199))), &[]);
        check(
            |f| drop(f.upload(&Method::PUT, &sized(200))),
            &[Bulk::Upload(200)],
        );
        check(|f| f.response(&Method::GET, &sized(99)).pass(400), &[]);
    }

    #[test]
    fn a_body_of_unknown_length_is_counted_by_itself() {
        let unknown = SizeHint::default();
        check(
            |f| {
                let mut meter = f.response(&Method::GET, &unknown);
                meter.pass(299);
                // The next response begins at nothing, or every connection would be bulk in the end.
                let mut meter = f.response(&Method::GET, &unknown);
                meter.pass(299);
                meter.pass(1);
                meter.pass(1000);
            },
            &[Bulk::Streamed(300)],
        );
    }

    #[test]
    fn responses_that_are_neither_small_nor_big_count_together() {
        let get_all = |sizes: &[u64], expected: &[Bulk]| {
            let get = |freight: &Freight| {
                for &bytes in sizes {
                    drop(freight.response(&Method::GET, &sized(bytes)));
                }
            };
            check(get, expected);
        };
        get_all(&[49; 100], &[]);
        get_all(&[99; 3], &[]);
        get_all(&[99; 9], &[Bulk::Repeated(99)]);
        get_all(&[1, 1, 1, 99, 99, 98], &[]);
        get_all(&[1, 1, 1, 99, 99, 99], &[Bulk::Repeated(50)]);
    }

    #[test]
    fn what_outlook_anywhere_announces_is_a_limit() {
        let method: Method = "RPC_IN_DATA".parse().unwrap();
        check(|f| drop(f.upload(&method, &sized(1 << 30))), &[]);
        check(
            |f| f.upload(&method, &sized(1 << 30)).pass(300),
            &[Bulk::Streamed(300)],
        );
        let method: Method = "RPC_OUT_DATA".parse().unwrap();
        check(|f| drop(f.response(&method, &sized(1 << 30))), &[]);
    }

    #[test]
    fn it_is_told_once() {
        check(
            |f| {
                let mut meter = f.meter();
                f.tunnel();
                f.tunnel();
                meter.pass(1000);
                drop(f.response(&Method::GET, &sized(100)));
                drop(f.clone().upload(&Method::GET, &sized(1000)));
                f.meter().pass(1000);
            },
            &[Bulk::Tunnel],
        );
    }

    #[test]
    fn nobody_is_told_who_does_not_ask() {
        let freight = Freight::new(Some(THRESHOLDS), None);
        freight.tunnel();
        let told = Rc::new(Told::default());
        let carriage: Rc<dyn Carriage> = Rc::<Told>::clone(&told);
        Freight::new(None, Some(carriage)).tunnel();
        assert!(told.0.borrow().is_empty());
    }
}
