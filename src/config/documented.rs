//! That `docs/kafka.md` names the settings which have an effect, and those which are refused, as
//! the tables have them.

use super::property::{Role, Schema};
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/kafka.md");

/// The names in backticks of one bullet of one section.
fn documented(section: &str, bullet: &str) -> BTreeSet<&'static str> {
    let (_, section) = PAGE.split_once(&format!("\n### {section}\n")).unwrap_or(("", ""));
    let section = section.split("\n#").next().unwrap_or_default();
    let (_, names) = section.split_once(&format!("\n- {bullet}:")).unwrap_or(("", ""));
    let names = names.split("\n- ").next().unwrap_or_default();
    names.split('`').skip(1).step_by(2).collect()
}

fn in_the_table(schema: &Schema, role: fn(&Role) -> bool) -> BTreeSet<&'static str> {
    let of_role = schema.all().filter(|property| role(&property.role));
    of_role.map(|property| property.name).filter(|name| !name.starts_with("internal.")).collect()
}

#[test]
fn the_comparison_with_kafka_names_the_settings() {
    for (section, schema) in [
        ("Broker", &super::broker::SCHEMA),
        ("Topic", &super::topic::SCHEMA),
        ("Producer", &super::producer::SCHEMA),
        ("Consumer", &super::consumer::SCHEMA),
    ] {
        let used = in_the_table(schema, |role| *role == Role::Used);
        assert_eq!(documented(section, "In effect"), used, "{section}: in effect");
        let refused = in_the_table(schema, |role| matches!(role, Role::Refused(_)));
        assert_eq!(documented(section, "Refused"), refused, "{section}: refused");
    }
}
