//! The macro that makes a setting of its row, and how the text of a setting becomes a value.
//!
//! `settings!` stands once in the file of each kind of settings. From a row come the property in
//! the kind's table, the typed builder methods with their documentation, the value that the crate
//! works with, and, for a topic's setting, the broker's properties that it overrides. A row is
//!
//! ```text
//! /// What it does; the property's name before it and the default behind it are added.
//! NAME "the.property.ms": int(0), "5", kept {
//!     set the_property_ms(ms: u32) = ms.to_string(), the_property;
//!     get the_field: Duration = a_function;
//!     broker "log.the.property.hours" in HOURS: int, null;
//! }
//! ```
//!
//! - `NAME`, where a rule between settings needs it, is a constant for the property's name.
//! - `int(0)` is the kind of value with its bounds, one of the words at `@kind` below; `"5"` is
//!   the default, `null` for none; `kept` or `refused(WHY)` is the role where it has no effect.
//! - `set` is the builder method, named as the property is. The text behind `=` is for an argument
//!   that does not print as the property's value; the name behind it is that of the same method
//!   with a `Duration`.
//! - `get` is a field of the settings in effect, or a method where the table says `methods`. It is
//!   read as its type's [`FromText`] says, or by the function behind `=`, which sees all settings.
//! - `broker` is a property of the broker that the topic's overrides, the strongest first, with a
//!   kind, default and role of its own where they differ, the factor that makes the topic's unit,
//!   and, in braces, its builder method.
//! - A row that ends in `;` has none of the three.

use super::{Acks, Codec, IsolationLevel, OffsetReset, TimestampType};
use std::time::Duration;

macro_rules! settings {
    (@kind [bool]) => { Kind::Bool };
    (@kind [text]) => { Kind::Text };
    (@kind [non_empty]) => { Kind::NonEmpty };
    (@kind [int]) => { int_from(i32::MIN) };
    (@kind [int($min:expr)]) => { int_from($min) };
    (@kind [long]) => { long_from(i64::MIN) };
    (@kind [long($min:expr)]) => { long_from($min) };
    (@kind [ratio]) => { Kind::Decimal { min: 0.0, max: 1.0 } };
    (@kind [one_of($($word:literal),+)]) => { Kind::OneOf(&[$($word),+]) };
    (@kind [any_case($($word:literal),+)]) => { Kind::OneOfAnyCase(&[$($word),+]) };
    (@kind [list]) => { Kind::List(&[]) };
    (@kind [rule($rule:path)]) => { Kind::Rule($rule) };
    (@kind [of($kind:expr)]) => { $kind };

    (@default null) => { None };
    (@default $default:literal) => { Some($default) };

    (@role []) => { Role::Used };
    (@role [kept]) => { Role::Kept };
    (@role [refused($why:expr)]) => { Role::Refused($why) };

    // The last paragraph of a builder method's documentation.
    (@about null $kind:tt) => { "" };
    (@about "" $kind:tt) => { "" };
    (@about $default:literal $kind:tt) => {
        concat!("Default: `", $default, "`", settings!(@bounds $kind), ".")
    };
    (@bounds [int($min:literal)]) => { concat!(", at least ", $min) };
    (@bounds [long($min:literal)]) => { concat!(", at least ", $min) };
    (@bounds $kind:tt) => { "" };

    (@text $given:ident) => { $given };
    (@text $given:ident $text:expr) => { $text };

    (@read $from:expr, $name:literal) => { $from.value($name) };
    (@read $from:expr, $name:literal $reader:path) => { $reader($from) };

    // The builder methods of one row.
    (@set $config:ident $name:literal [$($about:meta)*] $kind:tt $default:tt {
        set $method:ident($given:ident: $type:ty) $(= $text:expr)? $(, $time:ident)?;
        $($rest:tt)*
    }) => {
        #[doc = concat!("`", $name, "`: ")]
        $(#[$about])*
        #[doc = ""]
        #[doc = settings!(@about $default $kind)]
        pub fn $method(self, $given: $type) -> $config {
            const _: () = assert!(crate::config::settings::is_named_after(
                stringify!($method).as_bytes(),
                $name.as_bytes()
            ));
            self.put($name, settings!(@text $given $($text)?))
        }

        $(
            #[doc = concat!(
                "[`", stringify!($config), "::", stringify!($method),
                "`] as a duration, in whole milliseconds."
            )]
            pub fn $time(self, time: std::time::Duration) -> $config {
                self.put($name, time.as_millis())
            }
        )?
    };
    (@set $config:ident $name:literal $about:tt $kind:tt $default:tt $none:tt) => {};

    (@set_of_broker $name:literal { $(#[$about:meta])* set $($set:tt)+ }) => {
        settings! { @set BrokerConfig $name [$($about)*] [of] null { set $($set)+ } }
    };

    (@property $name:literal $kind:tt $default:tt $role:tt $of_broker:expr) => {
        Property {
            name: $name,
            kind: settings!(@kind $kind),
            default: settings!(@default $default),
            role: settings!(@role $role),
            of_broker: $of_broker,
        }
    };
    (@of_broker $name:literal [$($same:tt)+]) => { settings!(@property $name $($same)+ &[]) };
    (@of_broker $name:literal $same:tt $($own:tt)+) => { settings!(@property $name $($own)+ &[]) };
    (@factor) => { 1 };
    (@factor $unit:ident) => { $unit };

    // The table, and the settings in effect.
    (@rows $effect:tt $({ $name:literal $kind:tt $default:tt $role:tt $({
        $(set $set:ident $given:tt $(= $text:expr)? $(, $time:ident)?;)?
        $($(#[$about:meta])* get $field:ident: $type:ty $(= $reader:path)?;)*
        $(broker $of_broker:literal $(in $unit:ident)?
            $(: $own:ident $(($min:expr))?, $own_default:tt $(, $own_role:ident $(($why:expr))?)?)?
            $({ $($set_of_broker:tt)+ })? $(;)?)*
    })? })*) => {
        pub(super) const TABLE: &[Property] = &[$(
            settings!(@property $name $kind $default $role &[$($(OfBroker {
                property: settings!(
                    @of_broker $of_broker [$kind $default $role]
                    $([$own $(($min))?] $own_default [$($own_role $(($why))?)?])?
                ),
                factor: settings!(@factor $($unit)?),
            },)*)?]),
        )*];

        $($($($(impl BrokerConfig {
            settings! { @set_of_broker $of_broker { $($set_of_broker)+ } }
        })?)*)?)*

        settings! {
            @effect $effect
            $({ $name $($($(#[$about])* get $field: $type $(= $reader)?;)*)? })*
        }
    };

    (@effect [$(#[$about:meta])* struct $settings:ident from $from:ty] $({
        $name:literal
        $($(#[$field_about:meta])* get $field:ident: $type:ty $(= $reader:path)?;)*
    })*) => {
        $(#[$about])*
        pub(crate) struct $settings {
            $($($(#[$field_about])* pub $field: $type,)*)*
        }

        impl $settings {
            /// The values in effect. Their texts were checked before.
            pub(super) fn read(from: &$from) -> $settings {
                $settings {
                    $($($field: settings!(@read from, $name $($reader)?),)*)*
                }
            }
        }
    };

    (@effect [methods of $config:ident] $({
        $name:literal
        $($(#[$about:meta])* get $method:ident: $type:ty $(= $reader:path)?;)*
    })*) => {
        /// The values in effect.
        impl $config {
            $($($(#[$about])* pub(crate) fn $method(&self) -> $type {
                settings!(@read &self.0, $name $($reader)?)
            })*)*
        }
    };

    (
        $config:ident { $($effect:tt)* }
        $(
            $(#[$about:meta])*
            $($key:ident)? $name:literal: $kind:ident $(($($arg:tt)*))?, $default:tt
                $(, $role:ident $(($why:expr))?)? $({ $($clauses:tt)* })? $(;)?
        )*
    ) => {
        $($(pub(super) const $key: &str = $name;)?)*

        impl $config {
            /// Sets a property to a value that is checked later.
            pub(super) fn put(
                mut self,
                key: &'static str,
                value: impl std::fmt::Display,
            ) -> $config {
                self.0.put(key, value);
                self
            }

            $(settings! {
                @set $config $name [$($about)*] [$kind $(($($arg)*))?] $default
                { $($($clauses)*)? }
            })*
        }

        settings! {
            @rows [$($effect)*]
            $({
                $name [$kind $(($($arg)*))?] $default [$($role $(($why))?)?]
                $({ $($clauses)* })?
            })*
        }
    };
}

pub(super) use settings;

/// Whether a method's name is the property's with `_` for each dot.
pub(super) const fn is_named_after(method: &[u8], property: &[u8]) -> bool {
    let mut same = method.len() == property.len();
    let mut at = 0;
    while same && at < method.len() {
        same = method[at] == property[at] || (method[at] == b'_' && property[at] == b'.');
        at += 1;
    }
    same
}

/// A value that a setting in effect can have.
pub(super) trait FromText: Sized {
    /// What stands for a setting that is null.
    const NONE: Self;

    /// None for text that the property's kind refuses.
    fn from_text(text: &str) -> Option<Self>;
}

fn whole(text: &str) -> Option<i64> {
    text.parse().ok()
}

impl FromText for i64 {
    const NONE: i64 = 0;

    fn from_text(text: &str) -> Option<i64> {
        whole(text)
    }
}

impl FromText for i32 {
    const NONE: i32 = 0;

    fn from_text(text: &str) -> Option<i32> {
        whole(text).map(|n| i32::try_from(n).unwrap_or(i32::MAX))
    }
}

impl FromText for u32 {
    const NONE: u32 = 0;

    fn from_text(text: &str) -> Option<u32> {
        whole(text).map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX))
    }
}

/// Negative numbers count as 0.
impl FromText for u64 {
    const NONE: u64 = 0;

    fn from_text(text: &str) -> Option<u64> {
        whole(text).map(|n| u64::try_from(n).unwrap_or(0))
    }
}

impl FromText for f64 {
    const NONE: f64 = 0.0;

    fn from_text(text: &str) -> Option<f64> {
        text.parse().ok()
    }
}

/// A size in bytes or a count; negative ones count as 0.
impl FromText for usize {
    const NONE: usize = 0;

    fn from_text(text: &str) -> Option<usize> {
        whole(text).map(|n| usize::try_from(n.max(0)).unwrap_or(usize::MAX))
    }
}

/// From milliseconds; negative ones count as none.
impl FromText for Duration {
    const NONE: Duration = Duration::ZERO;

    fn from_text(text: &str) -> Option<Duration> {
        whole(text).map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
    }
}

impl FromText for bool {
    const NONE: bool = false;

    fn from_text(text: &str) -> Option<bool> {
        Some(text == "true")
    }
}

impl FromText for String {
    const NONE: String = String::new();

    fn from_text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// None where the setting is null.
impl<T: FromText> FromText for Option<T> {
    const NONE: Option<T> = None;

    fn from_text(text: &str) -> Option<Option<T>> {
        T::from_text(text).map(Some)
    }
}

impl FromText for OffsetReset {
    const NONE: OffsetReset = OffsetReset::Latest;

    fn from_text(text: &str) -> Option<OffsetReset> {
        text.parse().ok()
    }
}

impl FromText for IsolationLevel {
    const NONE: IsolationLevel = IsolationLevel::ReadUncommitted;

    fn from_text(text: &str) -> Option<IsolationLevel> {
        match text {
            "read_committed" => Some(IsolationLevel::ReadCommitted),
            "read_uncommitted" => Some(IsolationLevel::ReadUncommitted),
            _ => None,
        }
    }
}

impl FromText for Acks {
    const NONE: Acks = Acks::All;

    fn from_text(text: &str) -> Option<Acks> {
        match text {
            "all" | "-1" => Some(Acks::All),
            "1" => Some(Acks::Leader),
            "0" => Some(Acks::None),
            _ => None,
        }
    }
}

impl FromText for Codec {
    const NONE: Codec = Codec::None;

    fn from_text(text: &str) -> Option<Codec> {
        Codec::from_name(text)
    }
}

impl FromText for TimestampType {
    const NONE: TimestampType = TimestampType::CreateTime;

    fn from_text(text: &str) -> Option<TimestampType> {
        [TimestampType::CreateTime, TimestampType::LogAppendTime]
            .into_iter()
            .find(|timestamp_type| timestamp_type.to_string() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::property::{
        Kind, OfBroker, Properties, Property, Role, Schema, int_from, long_from,
    };
    use super::*;
    use crate::ErrorKind;

    const HOURS: i64 = 3_600_000;
    static SCHEMA: Schema = Schema {
        of: "test",
        error: ErrorKind::InvalidConfig,
        tables: &[TABLE],
        overridden: &[],
        prefixes: &[],
        keeps_lists: false,
    };

    struct Config(Properties);

    settings! {
        Config {
            #[derive(Debug, PartialEq)]
            struct Effect from Properties
        }

        /// how long it takes.
        PAUSE "pause.ms": long(0), "5" {
            set pause_ms(ms: u64), pause;
            get pause: Duration;
            get is_short: bool = is_short;
            broker "log.pause.ms";
            broker "log.pause.hours" in HOURS: int, null, kept;
        }

        /// any words.
        "some.words": list, "" { set some_words(words: &[&str]) = words.join(","); }
        "magic": bool, "false", refused("it is not built");
        "rack": text, null, kept { get rack: Option<String>; }
    }

    fn is_short(p: &Properties) -> bool {
        p.whole(PAUSE) < 10
    }

    #[test]
    fn a_row_makes_the_property_its_methods_its_value_and_the_brokers_properties() {
        let config = Config(Properties::new(&SCHEMA));
        let effect = |pause, is_short| Effect { pause, is_short, rack: None };
        assert_eq!(Effect::read(&config.0), effect(Duration::from_millis(5), true));
        let config = config.pause_ms(7).some_words(&["a", "b"]).pause(Duration::from_secs(1));
        assert_eq!(Effect::read(&config.0), effect(Duration::from_secs(1), false));
        let set: Vec<_> = config.0.entries().collect();
        assert_eq!(set, [("pause.ms", "1000"), ("some.words", "a,b")]);
        let roles: Vec<_> = TABLE.iter().map(|row| row.role).collect();
        let refused = Role::Refused("it is not built");
        assert_eq!(roles, [Role::Used, Role::Used, refused, Role::Kept]);
        let of_broker = TABLE[0].of_broker;
        let seen = of_broker.iter().map(|of| (of.property.name, of.property.default, of.factor));
        let seen: Vec<_> = seen.collect();
        assert_eq!(seen, [("log.pause.ms", Some("5"), 1), ("log.pause.hours", None, HOURS)]);
        assert_eq!(of_broker[1].property.role, Role::Kept);
    }

    #[test]
    fn numbers_out_of_a_types_range_end_at_it() {
        assert_eq!((usize::from_text("-1"), u64::from_text("-1")), (Some(0), Some(0)));
        assert_eq!(i32::from_text("2147483648"), Some(i32::MAX));
        assert_eq!(Duration::from_text("-1"), Some(Duration::ZERO));
        assert_eq!((i64::from_text("soon"), Codec::from_text("brotli")), (None, None));
    }

    #[test]
    fn a_method_is_named_as_its_property() {
        assert!(is_named_after(b"linger_ms", b"linger.ms"));
        assert!(!is_named_after(b"linger", b"linger.ms"));
        assert!(!is_named_after(b"linger_ns", b"linger.ms"));
    }
}
