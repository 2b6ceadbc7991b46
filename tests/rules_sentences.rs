//! Rules in plain language: what people read on the admin page is what the rule does.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test may panic like the test itself"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use b24_janitor::core::rule::RuleSet;
use b24_janitor::core::sentence;
use b24_janitor::core::trace::Names;
use b24_janitor::rules::{self, Input};

fn load(text: &str) -> RuleSet {
    let input = Input { file: "rules.yaml".to_owned(), bytes: text.as_bytes().to_vec() };
    match rules::parse(&[input]) {
        Ok(loaded) => loaded.rules,
        Err(found) => panic!("{}", found.iter().map(|one| one.render(false)).collect::<String>()),
    }
}

/// The first sentence of a rule with these lines in Berlin's zone, without what is said of converted leads.
fn selects(lines: &str) -> String {
    let rules = load(&format!(
        "version: 1\ntimezone: Europe/Berlin\nrules:\n  - name: it\n    schedule: \"15 3 * * *\"\n{lines}\n"
    ));
    let first = sentence::rule(&rules.rules[0], &Names::default())[0].clone();
    first.strip_suffix("; converted leads are kept.").unwrap().to_owned()
}

#[test]
fn the_rules_to_start_from_read_like_this() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/rules.example.yaml")).unwrap();
    let rules = load(&text);
    let mut told = String::new();
    for rule in &rules.rules {
        writeln!(told, "{}\n  {}", rule.name, sentence::rule(rule, &Names::default()).join("\n  ")).unwrap();
    }
    for protection in &rules.protections {
        writeln!(told, "{}\n  {}", protection.name, sentence::protection(protection, &Names::default()))
            .unwrap();
    }
    insta::assert_snapshot!(told);
}

#[test]
fn every_operator_has_words_and_so_has_its_opposite() {
    let table = [
        ("stageId: JUNK", "whose stage is JUNK", "whose stage is not JUNK"),
        ("stageId: [JUNK, \"7\", X]", "whose stage is JUNK, 7 or X", "whose stage is neither JUNK, 7 nor X"),
        ("sourceId: { ne: WEB }", "whose source is not WEB", "whose source is WEB"),
        (
            "sourceId: { not_in: [WEB, CALL] }",
            "whose source is neither WEB nor CALL",
            "whose source is WEB or CALL",
        ),
        ("title: { contains: \"a b\" }", "whose title contains “a b”", "whose title does not contain “a b”"),
        (
            "title: { starts_with: Test }",
            "whose title begins with “Test”",
            "whose title does not begin with “Test”",
        ),
        ("assignedById: 7", "whose responsible person is 7", "whose responsible person is not 7"),
        ("opportunity: { gt: 5 }", "whose amount is more than 5", "whose amount is at most 5"),
        ("opportunity: { gte: 5 }", "whose amount is at least 5", "whose amount is less than 5"),
        ("opportunity: { lt: 0.5 }", "whose amount is less than 0.5", "whose amount is at least 0.5"),
        ("opportunity: { lte: 5 }", "whose amount is at most 5", "whose amount is more than 5"),
        (
            "createdTime: { lt: 2024-01-01 }",
            "that were created before 2024-01-01",
            "that were created at or after 2024-01-01",
        ),
        (
            "movedTime: { gt: \"2024-01-01T08:30:00+01:00\" }",
            "that came into their stage after 2024-01-01 08:30:00+01:00",
            "that came into their stage at or before 2024-01-01 08:30:00+01:00",
        ),
        ("hasPhone: Y", "that have a phone number", "that have no phone number"),
        ("hasEmail: N", "that have no e-mail address", "that have an e-mail address"),
        ("comments: { empty: true }", "whose comment is empty", "whose comment is filled in"),
        (
            "dateClosed: { empty: false }",
            "whose field dateClosed is filled in",
            "whose field dateClosed is empty",
        ),
        ("ufCrm_17: { eq: X }", "whose field ufCrm_17 is X", "whose field ufCrm_17 is not X"),
    ];
    for (selection, plain, opposite) in table {
        assert_eq!(
            selects(&format!("    match: {{ {selection} }}")),
            format!("Leads {plain}"),
            "{selection}"
        );
        let not = format!("    match: {{ id: {{ gt: 0 }}, not: {{ {selection} }} }}");
        assert_eq!(selects(&not), format!("Leads whose id is more than 0 and {opposite}"), "not {selection}");
    }
}

#[test]
fn groups_keep_their_meaning_also_when_they_are_negated() {
    let any = "any: [{ stageId: JUNK, sourceId: WEB }, { title: { contains: x } }]";
    assert_eq!(
        selects(&format!("    match: {{ hasPhone: N, {any} }}")),
        "Leads that have no phone number and ((whose stage is JUNK and whose source is WEB) or whose title contains “x”)"
    );
    assert_eq!(
        selects(&format!("    match: {{ hasPhone: N, not: {{ {any} }} }}")),
        "Leads that have no phone number and ((whose stage is not JUNK or whose source is not WEB) and whose title does \
         not contain “x”)"
    );
}

#[test]
fn what_happens_to_the_leads_follows_the_mode_the_grace_period_and_the_copies() {
    let told = |lines: &str| {
        let rules = load(&format!(
            "version: 1\ntimezone: Europe/Berlin\nrules:\n  - name: it\n    schedule: \"@daily\"\n    match: {{ stageId: JUNK \
             }}\n    include_converted: true\n{lines}"
        ));
        sentence::rule(&rules.rules[0], &Names::default()).join(" ")
    };
    let plan = told("");
    assert!(plan.contains("converted leads too.") && plan.contains("deletes nothing (mode plan)"), "{plan}");
    let at_once =
        told("    mode: delete\n    keep_copy: none\n    events: [ONCRMLEADADD, ONCRMLEADUPDATE]\n");
    assert!(at_once.contains("judged once more, and then deleted (mode delete)"), "{at_once}");
    assert!(at_once.contains("No copies of deleted leads are kept."), "{at_once}");
    assert!(at_once.contains("and at once when a lead is created or changed."), "{at_once}");
    let later = told("    mode: delete\n    grace_period: 36h\n    keep_copy: 2w\n");
    assert!(later.contains("waits for 36 hours, is then"), "{later}");
    assert!(later.contains("kept for 14 days"), "{later}");
}

#[test]
fn stages_and_users_are_called_by_the_names_that_the_portal_gave_them() {
    let rules = load(
        "version: 1\ntimezone: Europe/Berlin\nrules:\n  - { name: it, schedule: \"@daily\", match: { stageId: junk, \
         assignedById: [7, 8], opportunity: { lt: 7 } } }\n",
    );
    let names = Names {
        stages: BTreeMap::from([("JUNK".to_owned(), "Junk lead".to_owned())]),
        users: BTreeMap::from([(7, "Ada".to_owned())]),
    };
    assert_eq!(
        sentence::rule(&rules.rules[0], &names)[0],
        "Leads whose stage is junk (Junk lead) and whose responsible person is 7 (Ada) or 8 and whose amount is less than \
         7; converted leads are kept."
    );
}

#[test]
fn a_rule_is_shown_as_it_is_written_without_its_neighbours() {
    let text = "version: 1\ntimezone: Europe/Berlin\nrules:\n  # Not this.\n  - name: one\n    schedule: \"@daily\"\n    match:\n      \
        # Why.\n      stageId:\n        in: [\n          JUNK,\n        ]\n    older_than: 1d   # at least\n\n  # The next.\n  - { name: two, \
        schedule: \"@daily\",\n      match: { stageId: \"7\" }\n    }\nportal: { burst: 9 }\n";
    let rules = load(text);
    assert_eq!(
        rules.rules[0].written(),
        "- name: one\n  schedule: \"@daily\"\n  match:\n    # Why.\n    stageId:\n      in: [\n        JUNK,\n      ]\n  \
         older_than: 1d   # at least\n"
    );
    assert_eq!(
        rules.rules[1].written(),
        "- { name: two, schedule: \"@daily\",\n    match: { stageId: \"7\" }\n  }\n"
    );
}

#[test]
fn texts_over_several_lines_belong_to_the_rule_and_what_an_alias_repeats_does_not() {
    let text = "version: 1\ntimezone: Europe/Berlin\nrules:\n- name: one\n  schedule: &nightly \"@daily\"\n  match: &junk\n    stageId: JUNK\n  \
        description: |\n    First.\n\n    Second.\n- name: two\n  schedule: *nightly\n  match: *junk\n- name: three\n  schedule: \
        \"@daily\"\n  match: { title: \"a\n    b\" }\n";
    let written: Vec<String> = load(text).rules.iter().map(|rule| rule.written()).collect();
    assert!(written[0].ends_with("  description: |\n    First.\n\n    Second.\n"), "{written:?}");
    assert_eq!(written[1], "- name: two\n  schedule: *nightly\n  match: *junk\n");
    assert!(written[2].ends_with("title: \"a\n    b\" }\n"), "{written:?}");
}

#[test]
fn a_rule_of_the_largest_file_is_cut() {
    let codes: Vec<String> = (0..20_000).map(|n| format!("\"ä{n}\"")).collect();
    let rules = load(&format!(
        "version: 1\ntimezone: Europe/Berlin\nrules:\n  - name: it\n    schedule: \"@daily\"\n    match: {{ sourceId: [{}] }}\n",
        codes.join(", ")
    ));
    let written = rules.rules[0].written();
    assert!(written.len() < 33 * 1024 && written.ends_with("…\n"), "{}", written.len());
}
