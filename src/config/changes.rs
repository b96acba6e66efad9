//! Altering a topic's settings: steps that apply as a whole or not at all.

use super::topic::SCHEMA;
use super::{BrokerConfig, TopicConfig};
use crate::error::{Error, ErrorKind, Result};

/// One step of altering a topic's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets a property.
    Set(String, String),
    /// Takes an override back; one that is not there is no error.
    Delete(String),
    /// Adds items to a list property; those that are there stay as they are. Items are told apart
    /// by their letters, spaces around them included.
    Append(String, String),
    /// Takes items out of a list property; those that are not there are no error.
    Subtract(String, String),
}

impl ConfigChange {
    fn key(&self) -> &str {
        match self {
            ConfigChange::Set(key, _)
            | ConfigChange::Delete(key)
            | ConfigChange::Append(key, _)
            | ConfigChange::Subtract(key, _) => key,
        }
    }
}

impl TopicConfig {
    /// Looks at the changes alone: whatever topic they are for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] when one key is changed twice;
    /// [`ErrorKind::InvalidTopicConfig`] for a list operation on what is no list.
    pub(crate) fn check_changes(changes: &[ConfigChange]) -> Result<()> {
        for (i, change) in changes.iter().enumerate() {
            let key = change.key();
            if changes.iter().take(i).any(|earlier| earlier.key() == key) {
                let message = format!("\"{key}\" is changed twice in one call; change it once");
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        }
        for change in changes {
            let (ConfigChange::Append(key, _) | ConfigChange::Subtract(key, _)) = change else {
                continue;
            };
            match SCHEMA.find(key) {
                Some(property) if property.kind.is_list() => {}
                Some(_) => {
                    let why = "is not a list; set it instead of adding or taking items";
                    let message = format!("\"{key}\" {why}");
                    return Err(Error::new(ErrorKind::InvalidTopicConfig, message));
                }
                // Setting it says that there is no such key.
                None => TopicConfig::default().set(key, "")?,
            }
        }
        Ok(())
    }

    /// The settings after `changes`, none of which is applied if one is refused.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidTopicConfig`] for a refused value and an unknown key (unless it is only
    /// deleted), and as [`TopicConfig::check_changes`].
    pub(crate) fn changed(
        &self,
        broker: &BrokerConfig,
        changes: &[ConfigChange],
    ) -> Result<TopicConfig> {
        TopicConfig::check_changes(changes)?;
        let mut next = self.clone();
        for change in changes {
            match change {
                ConfigChange::Set(key, value) => next.set(key, value)?,
                ConfigChange::Delete(key) => drop(next.0.unset(key)),
                ConfigChange::Append(key, items) => {
                    let mut list = self.list_of(broker, key);
                    for item in changed_items(items) {
                        if !list.iter().any(|present| present == item) {
                            list.push(item.to_owned());
                        }
                    }
                    next.set(key, &list.join(","))?;
                }
                ConfigChange::Subtract(key, items) => {
                    let mut list = self.list_of(broker, key);
                    for item in changed_items(items) {
                        if let Some(at) = list.iter().position(|present| present == item) {
                            list.remove(at);
                        }
                    }
                    next.set(key, &list.join(","))?;
                }
            }
        }
        next.check()?;
        Ok(next)
    }

    /// The items of a list property as they were set, with their spaces, as Kafka compares them.
    fn list_of(&self, broker: &BrokerConfig, key: &str) -> Vec<String> {
        let in_effect = || self.describe_one(broker, key).map(|entry| entry.value().to_owned());
        let text = self.get(key).map(str::to_owned).or_else(in_effect).unwrap_or_default();
        text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// The items of a list operation, as Kafka splits them: no text is one empty item, which lists of
/// words refuse, and empty items at the end count for nothing. Spaces are part of an item.
fn changed_items(text: &str) -> impl Iterator<Item = &str> {
    let ended = text.trim_end_matches(',');
    let none = ended.is_empty() && !text.is_empty();
    ended.split(',').filter(move |_| !none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_appended_to_and_subtracted_from_and_nothing_else_is() {
        let broker = BrokerConfig::default();
        let append = |c: &TopicConfig, key: &str, v: &str| {
            c.changed(&broker, &[ConfigChange::Append(key.into(), v.into())])
        };
        let subtract = |c: &TopicConfig, v: &str| {
            c.changed(&broker, &[ConfigChange::Subtract("cleanup.policy".into(), v.into())])
        };
        let start = TopicConfig::default();
        let both = append(&start, "cleanup.policy", "compact").unwrap();
        assert_eq!(both.get("cleanup.policy"), Some("delete,compact"));
        assert_eq!(append(&both, "cleanup.policy", "compact").unwrap(), both);
        let compact = subtract(&both, "delete").unwrap();
        assert_eq!(subtract(&compact, "delete").unwrap(), compact);
        assert_eq!(subtract(&compact, "compact").unwrap().get("cleanup.policy"), Some(""));
        for (key, value) in [("retention.ms", "1"), ("cleanup.policy", "shred"), ("no.such", "1")] {
            let error = append(&start, key, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidTopicConfig, "{key}");
        }
    }

    #[test]
    fn items_of_lists_are_told_apart_by_their_spaces() {
        let broker = BrokerConfig::default();
        let key = || "cleanup.policy".to_owned();
        let shown = |config: &TopicConfig| {
            config.describe_one(&broker, "cleanup.policy").unwrap().value().to_owned()
        };
        let mut config = TopicConfig::default();
        for (change, value) in [
            (ConfigChange::Set(key(), "compact, delete".into()), "compact,delete"),
            (ConfigChange::Subtract(key(), "delete".into()), "compact,delete"),
            (ConfigChange::Append(key(), "delete".into()), "compact,delete"),
            (ConfigChange::Subtract(key(), " delete".into()), "compact,delete"),
            (ConfigChange::Subtract(key(), "delete".into()), "compact"),
        ] {
            config = config.changed(&broker, &[change]).unwrap();
            assert_eq!(shown(&config), value);
        }
    }

    #[test]
    fn changes_apply_as_a_whole_or_not_at_all() {
        let broker = BrokerConfig::default();
        let config = TopicConfig::default().retention_ms(1000);
        let set = |k: &str, v: &str| ConfigChange::Set(k.into(), v.into());
        let next = config
            .changed(&broker, &[set("flush.ms", "5"), ConfigChange::Delete("retention.ms".into())])
            .unwrap();
        assert_eq!(next.entries().collect::<Vec<_>>(), [("flush.ms", "5")]);
        assert!(config.changed(&broker, &[set("flush.ms", "5"), set("segment.ms", "0")]).is_err());
        let twice = [set("flush.ms", "5"), ConfigChange::Delete("flush.ms".into())];
        let error = config.changed(&broker, &twice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        config.changed(&broker, &[ConfigChange::Delete("no.such".into())]).unwrap();
    }
}
