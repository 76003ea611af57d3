//! Where a setting is looked for that a route may have of its own, or else its service.
//!
//! Invariant: a key that both have is the route's, and a mistake in it is reported where it stands.

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

    /// The value of `key` in the route's own table; `None` for a service itself.
    pub(crate) fn own(self, key: &'static str) -> Option<Node<'a>> {
        self.outer.and_then(|_| self.inner.get(key))
    }

    /// The service's table.
    pub(crate) fn base(self) -> &'t Table<'a> {
        self.outer.unwrap_or(self.inner)
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

    /// The route's own table; `None` if this is a service's.
    pub(crate) fn route(self) -> Option<&'t Table<'a>> {
        self.outer.map(|_| self.inner)
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

    /// As [`Table::warn`].
    pub(crate) fn warn(self, key: &'static str, cost: Cost) {
        self.holder(key).warn(key, cost);
    }

    /// Where mistakes go.
    pub(crate) const fn report(self) -> &'a Report<'a> {
        self.inner.report
    }
}
