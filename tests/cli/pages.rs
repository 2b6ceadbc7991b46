//! The admin pages of a running service do what the commands do.

use crate::home::{Home, JUNK};
use crate::http;
use crate::portal::Portal;
use crate::service::{Service, until};

#[test]
fn a_plan_and_a_run_ordered_by_a_script_are_those_of_the_commands() {
    let portal = Portal::with_leads(60);
    let home = Home::new(&portal, JUNK);
    let service = Service::start(&home);
    let plan = home.object(&["plan", "junk", "--json"]);
    let (status, text) = http::order(service.admin, "/rules/junk/plan");
    assert_eq!(status, 202, "{text}");
    let page = until("the plan", || {
        let (status, page) = http::get(service.admin, "/rules/junk/plan");
        assert_eq!(status, 200, "{page}");
        page.contains("would be deleted").then_some(page)
    });
    for (words, key) in [
        ("would be deleted", "would_delete"),
        ("match", "matched"),
        ("match and are protected", "protected"),
        ("can't be judged, and are kept", "undecidable"),
    ] {
        let row = format!("<th scope=\"row\">{words}</th><td class=\"number\">{}</td>", plan[key]);
        assert!(page.contains(&row), "{row}: {page}");
    }
    let (status, text) = http::order(service.admin, "/rules/junk/run");
    let said = format!("Run 1: {0} deletions enqueued of {0} leads matched.", plan["would_delete"]);
    assert!(status == 200 && text.contains(&said), "{status} {text}");
    until("the deletions", || portal.in_stage("JUNK").is_empty().then_some(()));
    let lead = home.objects(&["jobs", "--json", "--limit", "1"])[0]["lead_id"].to_string();
    let (status, page) = http::get(service.admin, &format!("/leads/{lead}"));
    assert!(status == 200 && page.contains("A copy is kept until"), "{status} {page}");
    service.stop();
    portal.assert_pace_kept();
}
