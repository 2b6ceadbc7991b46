//! `notify test`, alone and beside a service, and the notice of a reload that failed: to a web server of others.

use std::sync::LazyLock;

use tokio::runtime::Runtime;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::home::{Home, JUNK};
use crate::http;
use crate::portal::Portal;
use crate::service::{Service, until};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
const KEY: &str = "s3cr3t-of-the-hook";

/// Two targets: what `ops` is sent is taken, what `shut` is sent is refused.
fn rules() -> String {
    format!(
        "{JUNK}notify:\n  - {{ name: ops, on: [held, reload_failed], http: {{ url_env: JANITOR_NOTIFY_OPS }} }}\n  - {{ name: shut, on: \
         [held], http: {{ url_env: JANITOR_NOTIFY_OFF }} }}\n"
    )
}

/// A web server that takes notices at one address and refuses them at another.
pub(crate) struct Hook(MockServer);

impl Hook {
    pub(crate) fn start() -> Hook {
        Hook(RUNTIME.block_on(async {
            let server = MockServer::start().await;
            let taken = ResponseTemplate::new(200).set_body_string("taken");
            Mock::given(method("POST")).and(path(format!("/{KEY}"))).respond_with(taken).mount(&server).await;
            let refused = ResponseTemplate::new(403).set_body_string(format!("no such hook {KEY}-off"));
            let off = path(format!("/{KEY}-off"));
            Mock::given(method("POST")).and(off).respond_with(refused).mount(&server).await;
            server
        }))
    }

    fn home(&self, portal: &Portal) -> Home {
        self.home_with(portal, &rules())
    }

    /// A home with these rules and the addresses of both.
    pub(crate) fn home_with(&self, portal: &Portal, rules: &str) -> Home {
        let url = format!("{}/{KEY}", self.0.uri());
        Home::new(portal, rules)
            .with("JANITOR_NOTIFY_OPS", &url)
            .with("JANITOR_NOTIFY_OFF", &format!("{url}-off"))
    }

    /// The bodies of what was sent to it.
    pub(crate) fn got(&self) -> Vec<String> {
        let requests = RUNTIME.block_on(self.0.received_requests()).unwrap();
        requests.into_iter().map(|request| String::from_utf8(request.body).unwrap()).collect()
    }
}

/// What `notify test` says of both targets, whoever sends.
fn both_are_told_of(home: &Home, hook: &Hook) {
    let before = hook.got().len();
    assert_eq!(home.ok(&["notify", "test", "ops"]), "ops (http): ok: 200 taken\n");
    let all = home.fails(1, &["notify", "test", "--json"]);
    let told = crate::home::objects(&all.out);
    assert_eq!(told.len(), 2, "{told:?}");
    let (ops, off) = (&told[0], &told[1]);
    assert!(ops["target"] == "ops" && ops["way"] == "http" && ops["ok"] == true, "{ops}");
    assert!(off["target"] == "shut" && off["ok"] == false, "{off}");
    assert!(off["said"].as_str().unwrap().contains("403"), "{off}");
    assert!(all.err.contains("1 of 2 test notices did not arrive"), "{}", all.err);
    let people = home.fails(1, &["notify", "test", "shut"]);
    assert!(people.out.starts_with("shut (http): FAILED: "), "{}", people.out);
    let unknown = home.run(&["notify", "test", "nobody"]);
    assert!(unknown.code != Some(0) && unknown.err.contains("nobody"), "{}", unknown.err);
    for said in [&all.out, &all.err, &people.out, &people.err, &unknown.err] {
        assert!(!said.contains(KEY), "{said}");
    }
    let got = hook.got();
    assert_eq!(got.len() - before, 4, "{got:?}");
    assert!(got.iter().all(|body| body.contains("Nothing happened: this is a test.")), "{got:?}");
}

#[test]
fn a_test_notice_says_of_each_target_whether_it_arrived() {
    let (portal, hook) = (Portal::with_leads(20), Hook::start());
    let home = hook.home(&portal);
    both_are_told_of(&home, &hook);
    let silent = Home::new(&portal, JUNK);
    assert!(silent.ok(&["notify", "test"]).contains("nobody is told of anything"));
}

#[test]
fn beside_a_service_the_service_sends_the_test_notice() {
    let (portal, hook) = (Portal::with_leads(20), Hook::start());
    let home = hook.home(&portal);
    let service = Service::start(&home);
    // The command has no secrets: only the service can have sent what arrives.
    both_are_told_of(&home.with("JANITOR_NOTIFY_OPS", "").with("JANITOR_NOTIFY_OFF", ""), &hook);
    service.stop();
}

#[test]
fn a_failed_reload_is_told_once_for_the_same_mistakes_and_again_for_others() {
    let (portal, hook) = (Portal::with_leads(20), Hook::start());
    let home = hook.home(&portal);
    let mut service = Service::start(&home);
    let stored = || {
        let only_read = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = rusqlite::Connection::open_with_flags(home.path("janitor.db"), only_read).unwrap();
        let sql = "SELECT count(*) FROM notices WHERE occasion = 'reload_failed'";
        db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    home.write("rules.yaml", &rules().replace("stageId: JUNK", "stagId: JUNK"));
    service.process.signal("HUP");
    service.process.line("not reloaded");
    let got = until("the notice", || hook.got().pop());
    assert!(got.contains("The rules were not reloaded: 1 problem."), "{got}");
    assert!(got.contains("The old rules stay in force"), "{got}");
    service.process.signal("HUP");
    service.process.line("not reloaded");
    let (_, answer) = http::order(service.admin, "/rules/reload");
    assert!(answer.contains("stagId"), "{answer}");
    assert_eq!((stored(), hook.got().len()), (1, 1));

    home.write("rules.yaml", &rules().replace("stageId: JUNK", "stageIds: JUNK"));
    http::order(service.admin, "/rules/reload");
    assert_eq!(stored(), 2, "these are other mistakes");
    home.write("rules.yaml", &rules());
    service.process.signal("HUP");
    service.process.line("rules reloaded");
    assert_eq!(stored(), 2);
    service.stop();
}
