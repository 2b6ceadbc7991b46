//! Time zones by their IANA names; an abbreviation is refused, since it means different times to different people.

use jiff::tz::{self, TimeZone};

use super::reader::Reader;
use crate::rules::diagnostic::shown;
use crate::rules::tree::Node;

/// A zone and its name as the database has it.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    /// The zone.
    pub(super) zone: TimeZone,
    /// Its IANA name.
    pub(super) name: String,
}

impl Zone {
    /// What stands in for a zone that could not be read, so that reading goes on; such rules are never used.
    pub(super) fn placeholder() -> Zone {
        Zone { zone: TimeZone::UTC, name: "UTC".to_owned() }
    }
}

/// Abbreviations that people write, with a zone that is usually meant.
const ABBREVIATIONS: &[(&str, &str)] = &[
    ("CET", "Europe/Berlin"),
    ("CEST", "Europe/Berlin"),
    ("MEZ", "Europe/Berlin"),
    ("MESZ", "Europe/Berlin"),
    ("MET", "Europe/Berlin"),
    ("EET", "Europe/Kyiv"),
    ("EEST", "Europe/Kyiv"),
    ("WET", "Europe/Lisbon"),
    ("WEST", "Europe/Lisbon"),
    ("GMT", "Europe/London"),
    ("BST", "Europe/London"),
    ("MSK", "Europe/Moscow"),
    ("MSD", "Europe/Moscow"),
    ("SAMT", "Europe/Samara"),
    ("YEKT", "Asia/Yekaterinburg"),
    ("OMST", "Asia/Omsk"),
    ("KRAT", "Asia/Krasnoyarsk"),
    ("NOVT", "Asia/Novosibirsk"),
    ("IRKT", "Asia/Irkutsk"),
    ("VLAT", "Asia/Vladivostok"),
    ("ALMT", "Asia/Almaty"),
    ("TRT", "Europe/Istanbul"),
    ("GST", "Asia/Dubai"),
    ("IST", "Asia/Kolkata"),
    ("ICT", "Asia/Bangkok"),
    ("JST", "Asia/Tokyo"),
    ("EST", "America/New_York"),
    ("EDT", "America/New_York"),
    ("CST", "America/Chicago"),
    ("CDT", "America/Chicago"),
    ("MST", "America/Denver"),
    ("MDT", "America/Denver"),
    ("PST", "America/Los_Angeles"),
    ("PDT", "America/Los_Angeles"),
    ("HST", "Pacific/Honolulu"),
    ("BRT", "America/Sao_Paulo"),
];

/// Reads a time zone.
pub(super) fn zone(reader: &mut Reader<'_>, node: &Node) -> Option<Zone> {
    let name = reader.text(node, "write the zone as Region/City, for example Europe/Berlin")?;
    let written = shown(name);
    if let Some((_, meant)) = ABBREVIATIONS.iter().find(|(short, _)| short.eq_ignore_ascii_case(name)) {
        reader
            .error(
                "timezone-abbreviation",
                &node.span,
                format!("`{written}` is an abbreviation, not a time zone"),
            )
            .help(format!("write the zone as Region/City, so that summer time is known: perhaps {meant}"));
        return None;
    }
    let known = if is_region(name) || name == "UTC" { TimeZone::get(name).ok() } else { None };
    if let Some(zone) = known {
        let name = zone.iana_name().unwrap_or(name).to_owned();
        return Some(Zone { zone, name });
    }
    let help = match suggestion(name) {
        Some(near) => format!("did you mean {near}?"),
        None if tz::db().available().next().is_none() => {
            "this machine has no time zone data: install the package tzdata".to_owned()
        }
        None => "write the zone as Region/City, for example Europe/Berlin, or UTC".to_owned(),
    };
    reader.error("unknown-timezone", &node.span, format!("there is no time zone `{written}`")).help(help);
    None
}

/// Whether a name of the database is one to suggest: its `posix/` and `right/` copies are not.
fn is_region(zone: &str) -> bool {
    zone.contains('/') && !zone.starts_with("posix/") && !zone.starts_with("right/")
}

/// The zone nearest to a name, which may be a city alone.
fn suggestion(name: &str) -> Option<String> {
    let wanted = name.to_lowercase().replace(' ', "_");
    let zones: Vec<String> =
        tz::db().available().map(|zone| zone.to_string()).filter(|zone| is_region(zone)).collect();
    let city = |zone: &str| zone.rsplit('/').next().unwrap_or_default().to_lowercase();
    if let Some(exact) = zones.iter().find(|zone| city(zone) == wanted) {
        return Some(exact.clone());
    }
    let score = |zone: &String| {
        let whole = strsim::jaro_winkler(&zone.to_lowercase(), &wanted);
        if wanted.contains('/') { whole } else { strsim::jaro_winkler(&city(zone), &wanted) }
    };
    zones
        .iter()
        .map(|zone| (score(zone), zone))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, zone)| zone.clone())
}
