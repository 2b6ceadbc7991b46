//! What is packaged is there and says the same in both places.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn directives(unit: &str) -> BTreeSet<String> {
    file(unit)
        .lines()
        .filter(|line| line.contains('=') && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Whoever hardens one unit must harden the other.
#[test]
fn the_unit_of_an_instance_is_that_of_the_service_but_for_its_places() {
    let one = directives("systemd/b24-janitor.service");
    let instance = directives("systemd/b24-janitor@.service");
    let differ = |line: &&String| {
        let name = line.split('=').next().unwrap();
        let places = ["Description", "After", "ConditionPathExists", "EnvironmentFile", "StateDirectory"];
        let alone = ["ConfigurationDirectory", "Sockets", "LoadCredential", "Also"];
        places.contains(&name)
            || alone.contains(&name)
            || line.starts_with("Environment=JANITOR_RULES=")
            || line.starts_with("Environment=JANITOR_DB=")
    };
    let rest =
        |all: &BTreeSet<String>| all.iter().filter(|line| !differ(line)).cloned().collect::<BTreeSet<_>>();
    assert_eq!(rest(&one), rest(&instance));
    // What is the one instance's own is named by its name, so that no two share it.
    let own = ["EnvironmentFile", "StateDirectory", "ConfigurationDirectory", "Environment"];
    for line in instance.iter().filter(differ).filter(|line| own.contains(&line.split('=').next().unwrap())) {
        assert!(line.contains("%i"), "{line}");
    }
}

#[test]
fn the_package_has_the_version_of_the_program_and_its_scripts_are_shell() {
    let first = file("packaging/debian/changelog").lines().next().unwrap().to_owned();
    assert!(first.starts_with(&format!("b24-janitor ({}-", env!("CARGO_PKG_VERSION"))), "{first}");
    for script in [
        "debian/postinst",
        "debian/postrm",
        "debian/config",
        "image-root.sh",
        "build-deb.sh",
        "build-static.sh",
    ] {
        let script = format!("packaging/{script}");
        // Where cargo-deb puts what enables and stops the units.
        let has_place = file(&script).contains("\n#DEBHELPER#\n");
        assert_eq!(has_place, script.contains("/debian/post"), "{script}");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&script);
        assert!(Command::new("bash").arg("-n").arg(path).status().unwrap().success(), "{script}");
    }
}

#[test]
fn every_file_that_the_package_takes_from_the_repository_is_there() {
    let manifest = file("Cargo.toml");
    let assets = manifest.split("\nassets = [").nth(1).unwrap().split("\n]").next().unwrap();
    let sources: Vec<&str> = assets.split('[').filter_map(|asset| asset.split('"').nth(1)).collect();
    assert!(sources.len() > 5, "{assets}");
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(source.trim_end_matches("*.md"));
        assert!(path.exists(), "{source}");
    }
}
