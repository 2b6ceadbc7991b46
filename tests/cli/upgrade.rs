//! The program on databases that earlier versions left behind.

use std::process::Command;

use crate::home::{Home, JUNK};
use crate::portal::Portal;

/// `None` where there is no `sqlite3` to make the database with.
fn left_behind(version: i64, portal: &Portal) -> Option<Home> {
    let home = Home::new(portal, JUNK);
    let dump = format!("{}/tests/fixtures/schema_{version}.sql", env!("CARGO_MANIFEST_DIR"));
    let made =
        Command::new("sqlite3").arg(home.path("janitor.db")).arg(format!(".read {dump}")).status().ok()?;
    assert!(made.success());
    Some(home)
}

#[test]
fn the_commands_read_what_an_earlier_version_did_and_finish_what_it_began() {
    for version in 1..=b24_janitor::store::SCHEMA_VERSION {
        let portal = Portal::with_leads(60);
        let Some(home) = left_behind(version, &portal) else { return };
        let status = home.object(&["status", "--json"]);
        let jobs = |word: &str| status["jobs"][word].as_u64().unwrap();
        assert_eq!((jobs("waiting"), jobs("deleted"), jobs("cancelled")), (15, 4, 1), "{status}");
        assert_eq!(home.objects(&["runs", "--json"])[0]["state"], "held");
        assert_eq!(home.objects(&["jobs", "--json"]).len(), 20);
        let waited = home.object(&["run", "junk", "--wait", "--json"]);
        assert_eq!(waited["jobs"]["failed"], 0, "{waited}");
        assert_eq!((home.jobs("waiting"), home.jobs("cancelled")), (0, 1));
    }
}
