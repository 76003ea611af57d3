//! Walks the spanned TOML tree and collects mistakes on the way.
//!
//! A reading function gets a [`Node`] or [`Table`] and returns `None` after it has reported why, so
//! that its caller goes on with the next key: all mistakes are found in one pass. Invariant: `None`
//! from a reading function means that at least one error was reported. Not here: what the keys
//! mean. Used by [`crate::root`] and [`crate::service`] only.

mod scope;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Cost, Error, Path, Place, Problem, Warning};

pub(crate) use scope::Scope;

/// Where mistakes and warnings go.
pub(crate) struct Report<'a> {
    text: &'a str,
    errors: RefCell<Vec<Error>>,
    warnings: RefCell<Vec<Warning>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            errors: RefCell::default(),
            warnings: RefCell::default(),
        }
    }

    pub(crate) fn error(&self, spot: &Spot, problem: Problem) {
        let Spot { offset, path } = spot;
        let place = Place::of(self.text, *offset);
        self.errors.borrow_mut().push(Error {
            place,
            path: path.clone(),
            problem,
        });
    }

    pub(crate) fn warn(&self, spot: &Spot, cost: Cost) {
        let Spot { offset, path } = spot;
        let place = Place::of(self.text, *offset);
        self.warnings.borrow_mut().push(Warning {
            place,
            path: path.clone(),
            cost,
        });
    }

    pub(crate) fn line(&self, spot: &Spot) -> usize {
        Place::of(self.text, spot.offset).line
    }

    /// The mistakes, and the warnings in the order of the file.
    pub(crate) fn finish(self) -> (Vec<Error>, Vec<Warning>) {
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(Warning::place);
        // What several routes inherit is read, and reported, for each of them.
        warnings.dedup();
        let mut errors: Vec<Error> = Vec::new();
        for error in self.errors.into_inner() {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        (errors, warnings)
    }
}

/// What an error or warning points at: a byte of the text, and the key's path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spot {
    pub(crate) offset: usize,
    pub(crate) path: Path,
}

impl Spot {
    /// A value that is read from here.
    pub(crate) fn with<T>(&self, value: T) -> Read<T> {
        Read {
            value,
            spot: self.clone(),
        }
    }
}

/// A value read from the file, with its place for checks that need several values.
#[derive(Clone, Debug)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) spot: Spot,
}

/// One value of the tree.
pub(crate) struct Node<'a> {
    report: &'a Report<'a>,
    value: &'a DeValue<'a>,
    pub(crate) spot: Spot,
}

impl<'a> Node<'a> {
    fn new(report: &'a Report<'a>, value: &'a Spanned<DeValue<'a>>, path: Path) -> Self {
        Self {
            report,
            value: value.get_ref(),
            spot: Spot {
                offset: value.span().start,
                path,
            },
        }
    }

    /// Reports `problem` here.
    pub(crate) fn fail<T>(&self, problem: Problem) -> Option<T> {
        self.report.error(&self.spot, problem);
        None
    }

    fn wrong_type<T>(&self, expected: impl Into<String>) -> Option<T> {
        let (expected, found) = (expected.into(), type_name(self.value));
        self.fail(Problem::WrongType { expected, found })
    }

    pub(crate) fn bad_value<T>(&self, found: &str, expected: impl Into<String>) -> Option<T> {
        // Keeps the message on one line, whatever the string holds.
        let found = found.escape_debug().to_string();
        self.fail(Problem::BadValue {
            found,
            expected: expected.into(),
        })
    }

    /// The string, parsed by `parse`; `expected` describes what it accepts.
    pub(crate) fn string<T>(
        &self,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let DeValue::String(text) = self.value else {
            return self.wrong_type(expected);
        };
        parse(text).or_else(|| self.bad_value(text, expected))
    }

    /// The value that goes with the string in `choices`.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let expected = || {
            let names: Vec<_> = choices
                .iter()
                .map(|(name, _)| format!("\"{name}\""))
                .collect();
            names.join(" or ")
        };
        let DeValue::String(text) = self.value else {
            return self.wrong_type(expected());
        };
        match choices.iter().find(|(name, _)| name == text) {
            Some((_, choice)) => Some(*choice),
            None => self.bad_value(text, expected()),
        }
    }

    /// The integer, if it lies in `1..=limit`; `limit` must fit `T`.
    pub(crate) fn count<T: TryFrom<NonZeroU32>>(&self, limit: u32) -> Option<T> {
        let number = self.number(1..=limit)?;
        NonZeroU32::new(number).and_then(|number| T::try_from(number).ok())
    }

    /// The integer, if it lies in `range`.
    pub(crate) fn number(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let DeValue::Integer(integer) = self.value else {
            return self.wrong_type("an integer without quotes");
        };
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| range.contains(number))
            .or_else(|| {
                let expected = format!("an integer from {} to {}", range.start(), range.end());
                self.bad_value(&integer.to_string(), expected)
            })
    }

    /// Where mistakes go.
    pub(crate) const fn report(&self) -> &'a Report<'a> {
        self.report
    }

    /// The elements of the array.
    pub(crate) fn array(&self, expected: &'static str) -> Option<Vec<Node<'a>>> {
        let DeValue::Array(array) = self.value else {
            return self.wrong_type(expected);
        };
        let node = |(index, value)| Node::new(self.report, value, self.spot.path.index(index));
        Some(array.iter().enumerate().map(node).collect())
    }

    /// The elements of the array that `read` accepts; all mistakes in it are reported.
    pub(crate) fn list<T>(
        &self,
        expected: &'static str,
        read: impl Fn(&Node<'a>) -> Option<T>,
    ) -> Option<Vec<Read<T>>> {
        let nodes = self.array(expected)?;
        if nodes.is_empty() {
            return self.fail(Problem::Empty(expected));
        }
        let read = |node: Node<'a>| {
            read(&node).map(|value| Read {
                value,
                spot: node.spot,
            })
        };
        Some(nodes.into_iter().filter_map(read).collect())
    }

    /// The table; keys that are not in `schema` are reported.
    pub(crate) fn table(&self, expected: &'static str, schema: Schema) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.value else {
            return self.wrong_type(expected);
        };
        Some(Table::new(self.report, entries, self.spot.clone(), schema))
    }

    /// The entries of a table whose keys are values themselves.
    pub(crate) fn entries(&self, expected: &'static str) -> Option<Vec<(&'a str, Self)>> {
        let DeValue::Table(entries) = self.value else {
            return self.wrong_type(expected);
        };
        let keys = entries.keys().map(|key| key.get_ref().as_ref());
        let node = |(key, value)| (key, Node::new(self.report, value, self.spot.path.key(key)));
        Some(keys.zip(entries.values()).map(node).collect())
    }

    /// The boolean.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("true or false"),
        }
    }

    /// Whether this is a string, where a short form and a table are both possible.
    pub(crate) fn is_string(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    /// Whether this is a table, where a short form and a table are both possible.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// The string under `key` if this is a table that has one; reports nothing.
    pub(crate) fn peek(&self, key: &str) -> Option<&'a str> {
        self.value.as_table()?.get(key)?.get_ref().as_str()
    }

    /// The same value, that people read as `subject`.
    pub(crate) fn labelled(&self, subject: String) -> Self {
        let path = self.spot.path.labelled(subject);
        Self {
            report: self.report,
            value: self.value,
            spot: Spot {
                offset: self.spot.offset,
                path,
            },
        }
    }
}

/// The keys that a table can have.
pub(crate) type Schema = &'static [&'static str];

/// The keys of both; `N` is how many they are.
pub(crate) const fn joined<const N: usize>(first: Schema, second: Schema) -> [&'static str; N] {
    let mut all = [""; N];
    let (head, tail) = all.split_at_mut(first.len());
    head.copy_from_slice(first);
    tail.copy_from_slice(second);
    all
}

/// A table of the tree. Keys that are in no schema are reported when it is opened.
pub(crate) struct Table<'a> {
    pub(crate) report: &'a Report<'a>,
    entries: &'a DeTable<'a>,
    spot: Spot,
    /// Keys that an unknown key was probably meant to be: to call them missing as well would report
    /// one mistake twice.
    misspelt: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The root of the file.
    pub(crate) fn root(
        report: &'a Report<'a>,
        entries: &'a Spanned<DeTable<'a>>,
        schema: Schema,
    ) -> Self {
        Self::new(report, entries.get_ref(), Spot::default(), schema)
    }

    fn new(report: &'a Report<'a>, entries: &'a DeTable<'a>, spot: Spot, schema: Schema) -> Self {
        let mut table = Self {
            report,
            entries,
            spot,
            misspelt: Vec::new(),
        };
        for key in entries
            .keys()
            .filter(|key| !schema.contains(&key.get_ref().as_ref()))
        {
            let nearest = nearest(key.get_ref(), schema);
            table.misspelt.extend(nearest);
            let problem = Problem::UnknownKey {
                nearest,
                known: schema.to_vec(),
            };
            report.error(&table.spot_of(key.get_ref(), &key.span()), problem);
        }
        table
    }

    fn spot_of(&self, key: &str, span: &Range<usize>) -> Spot {
        Spot {
            offset: span.start,
            path: self.spot.path.key(key),
        }
    }

    /// The value of `key`, if it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Node<'a>> {
        let value = self.entries.get(key)?;
        Some(Node::new(self.report, value, self.spot.path.key(key)))
    }

    /// Whether `key` is there, or meant to be.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.misspelt.contains(&key)
    }

    /// Where the value of `key` is, or where the table is if it has none.
    pub(crate) fn spot(&self, key: &'static str) -> Spot {
        let offset = self
            .entries
            .get(key)
            .map_or(self.spot.offset, |value| value.span().start);
        Spot {
            offset,
            path: self.spot.path.key(key),
        }
    }

    /// The value of `key` as `read` gives it; reports it missing if it is.
    pub(crate) fn required<T>(
        &self,
        key: &'static str,
        example: &'static str,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(node) => read(&node),
            None if self.misspelt.contains(&key) => None,
            None => self.fail(key, Problem::Missing { example }),
        }
    }

    /// The value of `key` as `read` gives it, or `default` if it is not there.
    pub(crate) fn optional<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        self.get(key).map_or(Some(default), |node| read(&node))
    }

    /// `value` with the place of `key`.
    pub(crate) fn at<T>(&self, key: &'static str, value: Option<T>) -> Option<Read<T>> {
        value.map(|value| Read {
            value,
            spot: self.spot(key),
        })
    }

    /// Reports every key of `keys` that is there, because it is `only_for` another kind than
    /// `here`.
    pub(crate) fn misplaced(&self, keys: Schema, only_for: &'static str, here: &'static str) {
        for &key in keys {
            if let Some((key_found, _)) = self.entries.get_key_value(key) {
                let spot = self.spot_of(key, &key_found.span());
                self.report
                    .error(&spot, Problem::Misplaced { only_for, here });
            }
        }
    }

    /// Reports `problem` of `key`.
    pub(crate) fn fail<T>(&self, key: &'static str, problem: Problem) -> Option<T> {
        self.report.error(&self.spot(key), problem);
        None
    }

    /// Warns of what `key` costs.
    pub(crate) fn warn(&self, key: &'static str, cost: Cost) {
        self.report.warn(&self.spot(key), cost);
    }
}

/// Reports each item whose value stood at another place before.
pub(crate) fn unique<'a, T: Ord + Display + 'a>(
    report: &Report<'_>,
    items: impl Iterator<Item = &'a Read<T>>,
) {
    let mut seen = BTreeMap::new();
    for item in items {
        let first = *seen.entry(&item.value).or_insert(item);
        if !std::ptr::eq(first, item) {
            let problem = Problem::Duplicate {
                value: item.value.to_string(),
                path: first.spot.path.dotted.clone(),
                line: report.line(&first.spot),
            };
            report.error(&item.spot, problem);
        }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The key of `schema` that was probably meant: at most a third of its letters differ.
fn nearest(key: &str, schema: Schema) -> Option<&'static str> {
    schema
        .iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), *known))
        .filter(|(distance, known)| distance * 3 <= known.len())
        .min()
        .map(|(_, known)| known)
}
