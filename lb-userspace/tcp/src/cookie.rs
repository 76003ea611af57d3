//! Stand-in until tcp-recv's lands.
use crate::{Config, FlowKey, Header, Instant, Options, Secret};
pub(crate) fn make(_: &Secret, _: &FlowKey, _: &Header, _: Instant, _: &Config) -> Header {
    unimplemented!()
}
pub(crate) fn check(
    _: &Secret,
    _: &FlowKey,
    _: &Header,
    _: Instant,
    _: &Config,
) -> Option<Options> {
    unimplemented!()
}
