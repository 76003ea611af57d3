//! Settings of a route that may be its service's.
//!
//! Invariant: a key is looked up in the route's own table, and in its service's only if it isn't there; mistakes are
//! reported where the key is.

use super::{Node, Report, Spot, Table};
use crate::error::Cost;

/// Where a route's settings are: in its own table, or else in that of its service.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'t, 'a> {
    inner: &'t Table<'a>,
    outer: Option<&'t Table<'a>>,
}

impl<'t, 'a> Scope<'t, 'a> {
    /// Of a service itself.
    pub(crate) const fn of(table: &'t Table<'a>) -> Self {
        Self {
            inner: table,
            outer: None,
        }
    }

    /// Of a route of a service.
    pub(crate) const fn within(route: &'t Table<'a>, service: &'t Table<'a>) -> Self {
        Self {
            inner: route,
            outer: Some(service),
        }
    }

    /// The table that has `key`; the inner one if none has.
    fn holder(self, key: &'static str) -> &'t Table<'a> {
        match self.outer {
            Some(outer) if !self.inner.has(key) && outer.has(key) => outer,
            _ => self.inner,
        }
    }

    /// As [`Table::get`].
    pub(crate) fn get(self, key: &'static str) -> Option<Node<'a>> {
        self.holder(key).get(key)
    }

    /// As [`Table::spot`].
    pub(crate) fn spot(self, key: &'static str) -> Spot {
        self.holder(key).spot(key)
    }

    /// As [`Table::required`].
    pub(crate) fn required<T>(
        self,
        key: &'static str,
        example: &'static str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        self.holder(key).required(key, example, read)
    }

    /// As [`Table::optional`].
    pub(crate) fn optional<T>(
        self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        self.holder(key).optional(key, default, read)
    }

    /// The route's own table; `None` if this is a service's.
    pub(crate) fn own(self) -> Option<&'t Table<'a>> {
        self.outer.map(|_| self.inner)
    }

    /// As [`Table::warn`].
    pub(crate) fn warn(self, key: &'static str, cost: Cost) {
        self.holder(key).warn(key, cost);
    }

    /// Where mistakes go.
    pub(crate) const fn report(self) -> &'a Report<'a> {
        self.inner.report
    }
}
