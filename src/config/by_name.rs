//! What the four kinds of settings have in common.

/// The methods of a type that wraps [`Properties`](super::property::Properties) of the table
/// `SCHEMA` in its module: by Kafka's names, as text. The third argument looks at what
/// `from_properties` read as a whole.
macro_rules! by_property_name {
    ($config:ident, $kind:ident, $together:path, $(#[$ignored:meta])+) => {
        impl Default for $config {
            /// Kafka's defaults, but for the departures that the setters name.
            fn default() -> Self {
                $config(Properties::new(&SCHEMA))
            }
        }

        impl $config {
            /// Takes properties by Kafka's names.
            ///
            /// # Errors
            #[doc = concat!(
                "[`ErrorKind::", stringify!($kind), "`] for an unknown key or a refused value."
            )]
            pub fn from_properties<K, V>(from: impl IntoIterator<Item = (K, V)>) -> Result<$config>
            where
                K: AsRef<str>,
                V: AsRef<str>,
            {
                let mut config = $config::default();
                config.0.set_all(from)?;
                $together(&config)?;
                Ok(config)
            }

            /// Sets one property by Kafka's name.
            ///
            /// # Errors
            #[doc = concat!(
                "[`ErrorKind::", stringify!($kind), "`] for an unknown key or a refused value."
            )]
            pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
                self.0.set(key, value)
            }

            /// What was set for `key`.
            pub fn get(&self, key: &str) -> Option<&str> {
                self.0.is_set(key).then(|| self.0.text(key)).flatten()
            }

            /// What was set, in order of name.
            pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
                self.0.entries()
            }

            $(#[$ignored])+
            pub fn ignored(&self) -> impl Iterator<Item = &str> {
                self.0.ignored()
            }
        }
    };
}

/// For settings whose conflicts are found where they are used.
pub(super) fn each_alone<T>(_: &T) -> crate::Result<()> {
    Ok(())
}

pub(super) use by_property_name;
