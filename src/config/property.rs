//! Property tables, and a set of properties that obeys one.
//!
//! A [`Schema`] lists what may be set: name, kind of value, default, and what becomes of the
//! setting here. [`Properties`] holds what was set, checked and in Kafka's spelling. Values are
//! read as Kafka's `ConfigDef` reads them: trimmed, numbers in decimal, lists split at commas.

use super::librdkafka;
use super::settings::FromText;
use crate::error::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// What values a property takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Bool,
    /// A whole number between two bounds, both included.
    Whole {
        min: i64,
        max: i64,
    },
    /// A decimal number between two bounds, both included.
    Decimal {
        min: f64,
        max: f64,
    },
    /// Any text.
    Text,
    /// Text with at least one character.
    NonEmpty,
    /// One of a few words, compared as they are written.
    OneOf(&'static [&'static str]),
    /// One of a few words in any case; kept in the spelling of the table.
    OneOfAnyCase(&'static [&'static str]),
    /// A list of words separated by commas. An empty table allows any.
    List(&'static [&'static str]),
    /// A list that a rule takes as a whole, and what the rule is.
    ListOf(fn(&str) -> bool, &'static str),
    /// Text that is never shown.
    Secret,
    /// Text under a rule of its own: the value to keep, or what is wrong.
    Rule(fn(&str) -> Result<String, String>),
}

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has an effect.
    Used,
    /// It is checked and kept, and has no effect: in one process on one disk, or in this version.
    Kept,
    /// Only the default may be set. The text says why, and what to do instead.
    Refused(&'static str),
}

/// One row of a property table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Property {
    pub name: &'static str,
    pub kind: Kind,
    /// None where Kafka's default is null.
    pub default: Option<&'static str>,
    pub role: Role,
    /// The broker's properties that a topic's overrides, the strongest first.
    pub of_broker: &'static [OfBroker],
}

/// A property of the broker that a topic overrides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfBroker {
    pub property: Property,
    /// What turns a positive number of it into the topic's unit.
    pub factor: i64,
}

impl Property {
    pub const fn new(name: &'static str, kind: Kind, default: &'static str) -> Property {
        Property { name, kind, default: Some(default), role: Role::Used, of_broker: &[] }
    }

    pub const fn null(name: &'static str, kind: Kind) -> Property {
        Property { name, kind, default: None, role: Role::Used, of_broker: &[] }
    }

    pub const fn bool(name: &'static str, default: &'static str) -> Property {
        Property::new(name, Kind::Bool, default)
    }

    pub const fn kept(mut self) -> Property {
        self.role = Role::Kept;
        self
    }

    /// Whether `value` is what nobody has to set; false for a flag without a default.
    fn is_default(&self, value: &str) -> bool {
        match (self.default, self.kind) {
            (Some(default), _) => default == value,
            (None, Kind::Bool) => value == "false",
            (None, _) => false,
        }
    }

    pub const fn refused(mut self, why: &'static str) -> Property {
        self.role = Role::Refused(why);
        self
    }
}

/// A 32-bit number, at least `min`.
pub(crate) const fn int_from(min: i32) -> Kind {
    Kind::Whole { min: min as i64, max: i32::MAX as i64 }
}

/// A 64-bit number, at least `min`.
pub(crate) const fn long_from(min: i64) -> Kind {
    Kind::Whole { min, max: i64::MAX }
}

impl Kind {
    /// The value in the spelling to keep, or what is wrong with it.
    pub fn normalise(&self, raw: &str) -> Result<String, String> {
        let text = trimmed(raw);
        match self {
            Kind::Bool if text.eq_ignore_ascii_case("true") => Ok("true".to_owned()),
            Kind::Bool if text.eq_ignore_ascii_case("false") => Ok("false".to_owned()),
            Kind::Bool => Err("it is true or false".to_owned()),
            Kind::Whole { min, max } => match text.parse::<i64>() {
                Ok(n) if (*min..=*max).contains(&n) => Ok(n.to_string()),
                _ => Err(format!("it is a whole number from {min} to {max}")),
            },
            Kind::Decimal { min, max } => match text.parse::<f64>() {
                Ok(n) if (*min..=*max).contains(&n) => Ok(format!("{n:?}")),
                // Neither below the one nor above the other, which is all that Kafka looks at.
                Ok(n) if n.is_nan() && text.ends_with("NaN") => Ok("NaN".to_owned()),
                _ => Err(format!("it is a number from {min} to {max}")),
            },
            Kind::Text | Kind::Secret => Ok(text.to_owned()),
            Kind::NonEmpty if text.is_empty() => Err("it is not empty".to_owned()),
            Kind::NonEmpty => Ok(text.to_owned()),
            Kind::OneOf(words) => match words.contains(&text) {
                true => Ok(text.to_owned()),
                false => Err(format!("it is one of {}", words.join(", "))),
            },
            Kind::OneOfAnyCase(words) => {
                match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
                    Some(word) => Ok((*word).to_owned()),
                    None => Err(format!("it is one of {}", words.join(", "))),
                }
            }
            Kind::List(words) => {
                let mut items: Vec<&str> = Vec::new();
                for item in split_list(text) {
                    // Kafka takes a word once.
                    if words.is_empty() || !items.contains(&item) {
                        items.push(item);
                    }
                }
                match items.iter().find(|item| !words.is_empty() && !words.contains(item)) {
                    Some(item) => Err(format!("\"{item}\" is none of {}", words.join(", "))),
                    None => Ok(items.join(",")),
                }
            }
            Kind::ListOf(takes, rule) => match takes(text) {
                true => Ok(split_list(text).collect::<Vec<_>>().join(",")),
                false => Err((*rule).to_owned()),
            },
            Kind::Rule(rule) => rule(text),
        }
    }

    /// Whether items can be added and taken.
    pub const fn is_list(&self) -> bool {
        matches!(self, Kind::List(_) | Kind::ListOf(..))
    }
}

/// The text without what Java's `trim` takes off its ends: every letter up to the space. What else
/// Unicode calls white space stays, as in Kafka.
pub(crate) fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter| letter <= ' ')
}

/// The items of a list: split at commas, trimmed; empty text has none.
pub(crate) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let none = trimmed(text).is_empty();
    text.split(',').map(trimmed).filter(move |_| !none)
}

/// Which properties there are.
#[derive(Debug)]
pub(crate) struct Schema {
    /// `producer`, `topic`: for error texts.
    pub of: &'static str,
    /// The kind of error for an unknown key or a refused value.
    pub error: ErrorKind,
    pub tables: &'static [&'static [Property]],
    /// Properties whose [`OfBroker`] are properties here.
    pub overridden: &'static [Property],
    /// Beginnings of keys that are open-ended; such keys are kept.
    pub prefixes: &'static [&'static str],
    /// Lists are kept letter for letter, for those who add and take items.
    pub keeps_lists: bool,
}

impl Schema {
    pub fn all(&self) -> impl Iterator<Item = &'static Property> + use<> {
        let of_broker = self.overridden.iter().flat_map(|property| property.of_broker);
        let tables = self.tables.iter().flat_map(|table| table.iter());
        tables.chain(of_broker.map(|of_broker| &of_broker.property))
    }

    pub fn find(&self, key: &str) -> Option<&'static Property> {
        self.all().find(|property| property.name == key)
    }

    fn fault(&self, message: String) -> Error {
        Error::new(self.error, message)
    }

    fn unknown(&self, key: &str) -> Error {
        let of = self.of;
        if let Some(answer) = librdkafka::answer(key, of) {
            return self.fault(answer);
        }
        self.fault(match self.nearest(key) {
            Some(name) => {
                format!("there is no {of} property \"{key}\"; the nearest name is \"{name}\"")
            }
            None => format!("there is no {of} property \"{key}\""),
        })
    }

    /// The name with the smallest edit distance to `key`, if one is near enough to be meant.
    pub fn nearest(&self, key: &str) -> Option<&'static str> {
        let (distance, name) =
            self.all().map(|p| (edit_distance(key, p.name), p.name)).min_by_key(|(d, _)| *d)?;
        (distance <= 2.max(key.len().max(name.len()) / 3)).then_some(name)
    }

    /// The value to keep for `key`.
    fn check(&self, key: &str, raw: &str) -> Result<(Cow<'static, str>, String)> {
        let Some(property) = self.find(key) else {
            return match self.prefixes.iter().any(|prefix| key.starts_with(prefix)) {
                true => Ok((Cow::Owned(key.to_owned()), trimmed(raw).to_owned())),
                false => Err(self.unknown(key)),
            };
        };
        let shown = if matches!(property.kind, Kind::Secret) { "..." } else { raw };
        let refused = |why: &str| {
            let fault = self.fault(format!("the value \"{shown}\" of \"{key}\" is refused: {why}"));
            if CLASS_LISTS.contains(&property.name) { of_no_class(fault) } else { fault }
        };
        let value = property.kind.normalise(raw).map_err(|why| refused(&why))?;
        let name = Cow::Borrowed(property.name);
        match property.role {
            Role::Refused(why) if !property.is_default(&value) => Err(refused(why)),
            _ if self.keeps_lists && property.kind.is_list() => Ok((name, raw.to_owned())),
            _ => Ok((name, value)),
        }
    }
}

/// Lists of classes, which Kafka's clients look for only when they make one of each.
const CLASS_LISTS: [&str; 2] = ["partition.assignment.strategy", "interceptor.classes"];

/// The refusal as Kafka's client has it for the name of a class that is not there.
fn of_no_class(fault: Error) -> Error {
    let cause = Error::new(fault.kind(), fault.message()).with_kafka_name("ClassNotFoundException");
    fault.with_kafka_name(ErrorKind::Kafka.kafka_name()).with_source(cause)
}

/// How many letters must be put in, taken out or replaced to make `b` of `a`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = replaced.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What a user set, under the rules of one schema.
#[derive(Clone)]
pub(crate) struct Properties {
    schema: &'static Schema,
    values: BTreeMap<Cow<'static, str>, String>,
}

impl Properties {
    pub fn new(schema: &'static Schema) -> Properties {
        Properties { schema, values: BTreeMap::new() }
    }

    /// Sets one property by name.
    ///
    /// # Errors
    /// The schema's kind, for an unknown name or a refused value.
    pub fn set(&mut self, key: &str, raw: &str) -> Result<()> {
        let (key, value) = self.schema.check(key, raw)?;
        self.values.insert(key, value);
        Ok(())
    }

    pub fn set_all<K, V>(&mut self, from: impl IntoIterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        from.into_iter().try_for_each(|(key, value)| self.set(key.as_ref(), value.as_ref()))
    }

    /// Sets a property whose name is known; [`Properties::check`] looks at the value.
    pub fn put(&mut self, key: &'static str, value: impl fmt::Display) {
        debug_assert!(self.schema.find(key).is_some(), "{key} is not in the table");
        self.values.insert(Cow::Borrowed(key), value.to_string());
    }

    /// Takes a setting back.
    pub fn unset(&mut self, key: &str) -> bool {
        self.values.remove(key).is_some()
    }

    /// Checks every value again: those of typed setters were not looked at.
    pub fn check(&self) -> Result<()> {
        self.values.iter().try_for_each(|(key, value)| self.schema.check(key, value).map(drop))
    }

    pub fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// What was set, in order of name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (&**key, value.as_str()))
    }

    /// The names that were set and have no effect here, in order.
    pub fn ignored(&self) -> impl Iterator<Item = &str> {
        self.values
            .keys()
            .filter(|key| self.schema.find(key).is_none_or(|p| p.role == Role::Kept))
            .map(|key| &**key)
    }

    /// The value that was set, or the default.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(value) => Some(value),
            None => self.schema.find(key).and_then(|property| property.default),
        }
    }

    /// What was set, or the default. A value that [`Properties::check`] would refuse falls back to
    /// the default.
    pub fn value<T: FromText>(&self, key: &str) -> T {
        let default = || T::from_text(self.schema.find(key)?.default?);
        self.text(key).and_then(T::from_text).or_else(default).unwrap_or(T::NONE)
    }

    /// The number of a property that has a default. Values that [`Properties::check`] would
    /// refuse fall back to the default.
    pub fn whole(&self, key: &str) -> i64 {
        self.whole_or_null(key)
            .or_else(|| self.schema.find(key)?.default?.parse().ok())
            .unwrap_or_default()
    }

    /// The number of a property whose default is null.
    pub fn whole_or_null(&self, key: &str) -> Option<i64> {
        self.text(key)?.parse().ok()
    }

    pub fn flag(&self, key: &str) -> bool {
        self.text(key) == Some("true")
    }

    pub fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        split_list(self.text(key).unwrap_or_default())
    }
}

impl PartialEq for Properties {
    fn eq(&self, other: &Properties) -> bool {
        self.values == other.values
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in self.entries() {
            match self.schema.find(key).map(|property| property.kind) {
                Some(Kind::Secret) => map.entry(&key, &"..."),
                _ => map.entry(&key, &value),
            };
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Property] = &[
        Property::new("batch.size", int_from(0), "16384"),
        Property::bool("enable.thing", "true"),
        Property::new("policy", Kind::List(&["compact", "delete"]), "delete"),
        Property::null("password", Kind::Secret).kept(),
        Property::bool("magic", "false").refused("it is not built"),
    ];
    static SCHEMA: Schema = Schema {
        of: "test",
        error: ErrorKind::InvalidConfig,
        tables: &[TABLE],
        overridden: &[],
        prefixes: &["x."],
        keeps_lists: false,
    };

    #[test]
    fn values_are_read_as_kafka_reads_them() {
        let mut p = Properties::new(&SCHEMA);
        assert_eq!((p.whole("batch.size"), p.flag("enable.thing")), (16384, true));
        p.set("batch.size", " +007 ").unwrap();
        p.set("enable.thing", "FALSE").unwrap();
        p.set("policy", " compact , delete ").unwrap();
        assert_eq!((p.whole("batch.size"), p.flag("enable.thing")), (7, false));
        assert_eq!(p.text("policy"), Some("compact,delete"));
        p.set("policy", " ").unwrap();
        assert_eq!(p.list("policy").count(), 0);
        for bad in ["", "-1", "1.5", "2147483648", "soon"] {
            let error = p.set("batch.size", bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}");
        }
        assert!(p.set("policy", "compact,").is_err());
        assert_eq!(p.whole("batch.size"), 7, "a refused value changes nothing");
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        let error = Properties::new(&SCHEMA).set("batch.sise", "1").unwrap_err();
        assert_eq!(
            error.message(),
            "there is no test property \"batch.sise\"; the nearest name is \"batch.size\""
        );
        let error = Properties::new(&SCHEMA).set("something.else", "1").unwrap_err();
        assert_eq!(error.message(), "there is no test property \"something.else\"");
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }

    #[test]
    fn names_of_librdkafka_are_answered_with_what_to_do_instead() {
        for (name, instead) in [
            ("message.timeout.ms", "set delivery.timeout.ms"),
            ("enable.partition.eof", "end_offsets"),
            ("metadata.broker.list", "no network"),
        ] {
            let error = Properties::new(&SCHEMA).set(name, "1").unwrap_err();
            assert!(error.message().contains(instead), "{error}");
        }
    }

    #[test]
    fn kept_and_open_ended_keys_are_listed_as_ignored_and_secrets_stay_hidden() {
        let mut p = Properties::new(&SCHEMA);
        p.set("password", "hunter2").unwrap();
        p.set("x.anything", "1").unwrap();
        p.set("batch.size", "1").unwrap();
        assert_eq!(p.ignored().collect::<Vec<_>>(), ["password", "x.anything"]);
        assert!(!format!("{p:?}").contains("hunter2"));
    }

    #[test]
    fn a_refused_property_takes_its_default_only_and_says_why() {
        let mut p = Properties::new(&SCHEMA);
        p.set("magic", "false").unwrap();
        assert!(p.set("magic", "true").unwrap_err().message().ends_with("it is not built"));
    }

    #[test]
    fn typed_values_are_looked_at_by_check() {
        let mut p = Properties::new(&SCHEMA);
        p.put("batch.size", -5);
        assert!(p.check().is_err());
        p.put("batch.size", 5);
        p.check().unwrap();
        assert!(p.unset("batch.size") && !p.unset("batch.size"));
    }
}
