//! Each variable and flag: what is accepted, what is refused, and that no secret is ever shown.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;
use crate::core::age::Age;

const WEBHOOK: &str = "https://a.bitrix24.de/rest/1/s3cr3tcode/";

fn source(variables: &[(&str, &str)]) -> Source {
    Source {
        env: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        credentials_dir: None,
    }
}

fn load(variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::load(&Flags::default(), &source(variables), Need::NoPortal)
}

/// The one problem there is.
fn problem(variables: &[(&str, &str)]) -> Problem {
    let mut problems = load(variables).expect_err(&format!("{variables:?}"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

fn exposed(tokens: &[SecretString]) -> Vec<&str> {
    tokens.iter().map(|token| token.expose_secret()).collect()
}

#[test]
fn defaults_need_nothing_but_the_webhook() {
    let settings =
        Settings::load(&Flags::default(), &source(&[("B24_WEBHOOK_URL", WEBHOOK)]), Need::Portal).unwrap();
    assert_eq!(settings.webhook.unwrap().to_string(), "https://a.bitrix24.de/rest/1/…/");
    assert!(settings.application_tokens.is_empty());
    assert_eq!(settings.rules, Path::new("rules.yaml"));
    assert_eq!(settings.db, Path::new("janitor.db"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(settings.admin_listen.unwrap().to_string(), "127.0.0.1:8081");
    assert_eq!(settings.silence_alarm, None);
    assert_eq!(settings.log, "info");
    assert_eq!(settings.log_format, LogFormat::Text);
    assert!(settings.admin_token.is_none() && settings.admin_hosts.is_empty());
}

#[test]
fn a_flag_beats_the_environment_and_that_the_default() {
    let variables = source(&[
        ("JANITOR_RULES", "env.yaml"),
        ("JANITOR_DB", "env.db"),
        ("JANITOR_LISTEN", "0.0.0.0:1"),
        ("JANITOR_ADMIN_LISTEN", "localhost:2"),
        ("JANITOR_SILENCE_ALARM", "24h"),
        ("JANITOR_LOG", "warn"),
        ("JANITOR_LOG_FORMAT", "json"),
    ]);
    let by_env = Settings::load(&Flags::default(), &variables, Need::NoPortal).unwrap();
    assert_eq!((by_env.rules.as_path(), by_env.db.as_path()), (Path::new("env.yaml"), Path::new("env.db")));
    assert_eq!(by_env.listen.to_string(), "0.0.0.0:1");
    assert_eq!(by_env.admin_listen.unwrap().to_string(), "127.0.0.1:2");
    assert_eq!(by_env.silence_alarm, Some(Age::hours(24)));
    assert_eq!((by_env.log.as_str(), by_env.log_format), ("warn", LogFormat::Json));

    let flags = Flags {
        rules: Some("flag.yaml".into()),
        db: Some("flag.db".into()),
        listen: Some("[::1]:0".into()),
        admin_listen: Some("off".into()),
        silence_alarm: Some("2d".into()),
        log: Some("info,b24_janitor=debug".into()),
        log_format: Some("text".into()),
    };
    let by_flag = Settings::load(&flags, &variables, Need::NoPortal).unwrap();
    assert_eq!(
        (by_flag.rules.as_path(), by_flag.db.as_path()),
        (Path::new("flag.yaml"), Path::new("flag.db"))
    );
    assert_eq!(by_flag.listen.to_string(), "[::1]:0");
    assert_eq!(by_flag.admin_listen, None);
    assert_eq!(by_flag.silence_alarm, Some(Age::days(2)));
    assert_eq!((by_flag.log.as_str(), by_flag.log_format), ("info,b24_janitor=debug", LogFormat::Text));
}

#[test]
fn an_empty_variable_is_unset() {
    let names = [
        "B24_WEBHOOK_URL",
        "B24_WEBHOOK_URL_FILE",
        "B24_APPLICATION_TOKEN",
        "B24_OAUTH_CLIENT_ID",
        "JANITOR_RULES",
        "JANITOR_DB",
        "JANITOR_LISTEN",
        "JANITOR_ADMIN_LISTEN",
        "JANITOR_SILENCE_ALARM",
        "JANITOR_LOG",
        "JANITOR_LOG_FORMAT",
        "JANITOR_ADMIN_TOKEN",
        "JANITOR_ADMIN_HOSTS",
    ];
    let settings = load(&names.map(|name| (name, ""))).unwrap();
    assert!(settings.webhook.is_none());
    assert_eq!(settings.rules, Path::new("rules.yaml"));
    assert_eq!(settings.admin_listen.unwrap().to_string(), "127.0.0.1:8081");
}

#[test]
fn only_commands_that_need_the_portal_need_a_webhook() {
    assert!(load(&[]).is_ok());
    let problems = Settings::load(&Flags::default(), &source(&[]), Need::Portal).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].variable, "B24_WEBHOOK_URL");
    assert!(problems[0].remedy.contains("https://HOST/rest/USER/CODE/"), "{}", problems[0]);
}

#[test]
fn a_secret_comes_from_a_file_or_a_credential_as_well() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "t0ken-one,t0ken-two\r\n").unwrap();
    let by_file = load(&[("B24_APPLICATION_TOKEN_FILE", file.to_str().unwrap())]).unwrap();
    assert_eq!(exposed(&by_file.application_tokens), ["t0ken-one", "t0ken-two"]);

    fs::write(dir.path().join("b24-webhook-url"), format!("{WEBHOOK}\n")).unwrap();
    fs::write(dir.path().join("janitor-admin-token"), "adm1n").unwrap();
    let credentials = Source { credentials_dir: Some(dir.path().into()), ..Source::default() };
    let settings = Settings::load(&Flags::default(), &credentials, Need::Portal).unwrap();
    assert_eq!(settings.webhook.unwrap().host(), "a.bitrix24.de");
    assert_eq!(settings.admin_token.unwrap().expose_secret(), "adm1n");
    assert!(settings.application_tokens.is_empty(), "a credential that isn't there is unset");
}

#[test]
fn a_secret_that_is_set_twice_is_an_error_that_names_both() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("b24-webhook-url");
    fs::write(&path, WEBHOOK).unwrap();
    let path = path.to_str().unwrap();
    let both = problem(&[("B24_WEBHOOK_URL", WEBHOOK), ("B24_WEBHOOK_URL_FILE", path)]);
    assert!(both.message.contains("B24_WEBHOOK_URL and by B24_WEBHOOK_URL_FILE"), "{both}");

    for (name, value) in [("B24_WEBHOOK_URL", WEBHOOK), ("B24_WEBHOOK_URL_FILE", path)] {
        let mut source = source(&[(name, value)]);
        source.credentials_dir = Some(dir.path().into());
        let problems = Settings::load(&Flags::default(), &source, Need::Portal).unwrap_err();
        assert_eq!(problems.len(), 1);
        let named = format!("{name} and by the systemd credential b24-webhook-url");
        assert!(problems[0].message.contains(&named), "{}", problems[0]);
    }
}

#[test]
fn a_secret_file_that_cannot_be_read_is_named_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("large"), "x".repeat(64 * 1024 + 1)).unwrap();
    fs::write(path("fits"), format!("{}\n", "x".repeat(64 * 1024 - 1))).unwrap();
    fs::write(path("binary"), b"\xff\xfe").unwrap();
    fs::write(path("empty"), "\n").unwrap();
    for (name, reason) in [
        ("missing", "No such file"),
        ("", "Is a directory"),
        ("large", "larger than 64 KiB"),
        ("binary", "UTF-8"),
        ("empty", "nothing but blanks"),
    ] {
        let problem = problem(&[("JANITOR_ADMIN_TOKEN_FILE", &path(name))]);
        assert_eq!(problem.variable, "JANITOR_ADMIN_TOKEN_FILE");
        assert!(problem.message.contains(reason), "{name}: {problem}");
        assert!(name == "empty" || problem.message.contains(&path(name)), "{problem}");
    }
    assert!(load(&[("JANITOR_ADMIN_TOKEN_FILE", &path("fits"))]).is_ok());

    // A credential that is there and can't be read is not taken for one that isn't there.
    fs::create_dir(path("b24-webhook-url")).unwrap();
    let source = Source { credentials_dir: Some(dir.path().into()), ..Source::default() };
    let problems = Settings::load(&Flags::default(), &source, Need::NoPortal).unwrap_err();
    assert!(problems[0].message.contains("Is a directory"), "{}", problems[0]);
}

#[test]
fn tokens_are_a_list_without_gaps() {
    let settings = load(&[("B24_APPLICATION_TOKEN", " one-t0ken , two-t0ken ")]).unwrap();
    assert_eq!(exposed(&settings.application_tokens), ["one-t0ken", "two-t0ken"]);
    for (tokens, message) in [
        ("t0ken,", "empty"),
        ("t0ken,,other", "empty"),
        ("t0ken other", "blank"),
        (&*"t0ken,".repeat(32).replace(",t", ", t"), "more than 32"),
    ] {
        let problems = load(&[("B24_APPLICATION_TOKEN", tokens)]).unwrap_err();
        assert!(problems[0].message.contains(message), "{problems:?}");
        assert!(!format!("{problems:?}").contains("t0ken"), "{problems:?}");
    }
}

const APPLICATION: [(&str, &str); 4] = [
    ("B24_OAUTH_CLIENT_ID", "local.573ad8a0346747.09223434"),
    ("B24_OAUTH_CLIENT_SECRET", "s3cr3tkey"),
    ("B24_OAUTH_REFRESH_TOKEN", "s3cr3trefresh"),
    ("B24_PORTAL_URL", "https://A.bitrix24.de/"),
];

fn for_portal(variables: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::load(&Flags::default(), &source(variables), Need::Portal)
}

#[test]
fn a_local_application_replaces_the_webhook() {
    let settings = for_portal(&APPLICATION).unwrap();
    assert!(settings.webhook.is_none());
    assert_eq!(settings.portal_host().as_deref(), Some("a.bitrix24.de"));
    let oauth = settings.oauth.unwrap();
    assert_eq!(oauth.client_id, "local.573ad8a0346747.09223434");
    assert_eq!(oauth.client_secret.expose_secret(), "s3cr3tkey");
    assert_eq!(oauth.refresh_token.expose_secret(), "s3cr3trefresh");
    assert_eq!(oauth.portal.to_string(), "https://a.bitrix24.de");
    assert_eq!(oauth.server.to_string(), "https://oauth.bitrix.info");

    let mut variables = APPLICATION.to_vec();
    variables.push(("B24_OAUTH_SERVER", "http://127.0.0.1:9000"));
    let oauth = for_portal(&variables).unwrap().oauth.unwrap();
    assert_eq!(oauth.server.as_str(), "http://127.0.0.1:9000");
}

#[test]
fn an_applications_secrets_come_from_credentials_and_files_as_well() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("b24-oauth-client-secret"), "s3cr3tkey\n").unwrap();
    fs::write(dir.path().join("token"), "s3cr3trefresh\n").unwrap();
    let file = dir.path().join("token");
    let mut source =
        source(&[APPLICATION[0], ("B24_OAUTH_REFRESH_TOKEN_FILE", file.to_str().unwrap()), APPLICATION[3]]);
    source.credentials_dir = Some(dir.path().into());
    let oauth = Settings::load(&Flags::default(), &source, Need::Portal).unwrap().oauth.unwrap();
    assert_eq!(oauth.client_secret.expose_secret(), "s3cr3tkey");
    assert_eq!(oauth.refresh_token.expose_secret(), "s3cr3trefresh");
}

#[test]
fn a_webhook_and_an_application_exclude_each_other() {
    for variable in APPLICATION.into_iter().chain([("B24_OAUTH_SERVER", "https://oauth.bitrix.info")]) {
        let both = problem(&[("B24_WEBHOOK_URL", WEBHOOK), variable]);
        assert_eq!(both.variable, "B24_WEBHOOK_URL");
        assert!(both.message.contains(variable.0), "{both}");
        assert!(!format!("{both:?}").contains("s3cr3t"), "{both}");
    }
}

#[test]
fn a_part_of_an_application_is_an_error_that_names_what_is_missing() {
    for missing in APPLICATION {
        let variables: Vec<_> = APPLICATION.into_iter().filter(|variable| *variable != missing).collect();
        let problems = for_portal(&variables).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].variable, missing.0);
        assert!(problems[0].message.contains(variables[0].0), "{}", problems[0]);
        assert!(!format!("{problems:?}").contains("s3cr3t"), "{problems:?}");
        // The rest may be where only the service sees it.
        assert!(load(&variables).unwrap().oauth.is_none());
    }
    let problems = for_portal(&[("B24_OAUTH_SERVER", "https://oauth.bitrix.info")]).unwrap_err();
    let named: Vec<&str> = problems.iter().map(|problem| problem.variable.as_str()).collect();
    assert_eq!(named, APPLICATION.map(|(name, _)| name));
}

#[test]
fn the_address_of_a_portal_or_an_authorisation_server_is_a_host_alone() {
    for (text, message) in [
        ("a.bitrix24.de", "not a web address"),
        ("ftp://a.bitrix24.de", "https://"),
        ("http://a.bitrix24.de", "in the clear"),
        ("https://a.bitrix24.de/rest/1/s3cr3tcode/", "follows the host"),
        ("https://a.bitrix24.de/?s3cr3t", "follows the host"),
        ("https://me:s3cr3t@a.bitrix24.de", "before the host"),
        ("\"https://a.bitrix24.de\"", "quotes"),
        ("https://a.bitrix24.de /s3cr3t", "blank"),
    ] {
        for name in ["B24_PORTAL_URL", "B24_OAUTH_SERVER"] {
            let mut variables: Vec<_> = APPLICATION.into_iter().filter(|(other, _)| *other != name).collect();
            variables.push((name, text));
            let problem = problem(&variables);
            assert_eq!(problem.variable, name);
            assert!(problem.message.contains(message), "{problem}");
            assert!(!format!("{problem:?}").contains("s3cr3t"), "{problem:?}");
        }
    }
    for text in ["http://localhost:8090", "http://127.0.0.1/", "https://portal.example.com:8443"] {
        assert_eq!(ServerUrl::parse(text).unwrap().as_str(), text.trim_end_matches('/'));
    }
}

#[test]
fn a_broken_secret_of_an_application_is_named_and_not_shown() {
    for name in ["B24_OAUTH_CLIENT_ID", "B24_OAUTH_CLIENT_SECRET", "B24_OAUTH_REFRESH_TOKEN"] {
        for value in ["s3cr3t s3cr3t", "\"s3cr3t\""] {
            let mut variables: Vec<_> = APPLICATION.into_iter().filter(|(other, _)| *other != name).collect();
            variables.push((name, value));
            let problem = problem(&variables);
            assert_eq!(problem.variable, name);
            assert!(!format!("{problem:?}").contains("s3cr3t"), "{problem:?}");
        }
    }
}

#[test]
fn paths_are_checked_as_far_as_text_goes() {
    let dir = TempDir::new().unwrap();
    for db in [":memory:", "file:janitor.db?mode=memory", dir.path().to_str().unwrap(), "state/"] {
        let problem = problem(&[("JANITOR_DB", db)]);
        assert_eq!(problem.variable, "JANITOR_DB (--db)");
        assert_eq!(problem.value.as_deref(), Some(db));
    }
    let flags = Flags { rules: Some("".into()), db: Some("".into()), ..Flags::default() };
    let problems =
        Settings::load(&flags, &source(&[("JANITOR_RULES", "x.yaml")]), Need::NoPortal).unwrap_err();
    let variables: Vec<&str> = problems.iter().map(|problem| problem.variable.as_str()).collect();
    assert_eq!(variables, ["JANITOR_RULES (--rules)", "JANITOR_DB (--db)"]);
}

#[test]
fn a_listener_needs_a_numeric_address_and_a_port() {
    for (text, message) in [
        ("8080", "not an address and a port"),
        ("127.0.0.1", "port is missing"),
        (":8080", "before the port is missing"),
        ("*:8080", "before the port is missing"),
        ("127.0.0.1:70000", "65535"),
        ("::1:8080x", "65535"),
        ("example.com:80", "not to a name"),
        ("fe80::1:zz:8080", "not to a name"),
        ("off", "not an address"),
    ] {
        let problem = problem(&[("JANITOR_LISTEN", text)]);
        assert_eq!(
            (problem.variable.as_str(), problem.value.as_deref()),
            ("JANITOR_LISTEN (--listen)", Some(text))
        );
        assert!(problem.message.contains(message), "{problem}");
    }
    let admin = problem(&[("JANITOR_ADMIN_LISTEN", "none")]);
    assert_eq!(admin.variable, "JANITOR_ADMIN_LISTEN (--admin-listen)");
}

#[test]
fn the_admin_listener_leaves_the_loopback_only_with_a_token() {
    for address in ["0.0.0.0:8081", "10.0.0.5:8081", "[::]:8081", "192.168.1.1:0"] {
        let refused = problem(&[("JANITOR_ADMIN_LISTEN", address)]);
        assert_eq!(refused.value.as_deref(), Some(address));
        assert!(refused.remedy.contains("JANITOR_ADMIN_TOKEN"), "{refused}");
        assert!(load(&[("JANITOR_ADMIN_LISTEN", address), ("JANITOR_ADMIN_TOKEN", "t0ken")]).is_ok());
    }
    for address in ["127.0.0.1:8081", "127.5.0.1:9", "[::1]:0", "[::ffff:127.0.0.1]:8081", "OFF"] {
        assert!(load(&[("JANITOR_ADMIN_LISTEN", address)]).is_ok(), "{address}");
    }
    // A token that is wrong itself is one problem, not two.
    let token = problem(&[("JANITOR_ADMIN_LISTEN", "0.0.0.0:8081"), ("JANITOR_ADMIN_TOKEN", "a t0ken")]);
    assert_eq!(token.variable, "JANITOR_ADMIN_TOKEN");
}

#[test]
fn the_two_listeners_need_two_ports() {
    for (public, admin) in [("127.0.0.1:8081", "127.0.0.1:8081"), ("0.0.0.0:8081", "127.0.0.1:8081")] {
        let problem = problem(&[("JANITOR_LISTEN", public), ("JANITOR_ADMIN_LISTEN", admin)]);
        assert!(problem.message.contains("same address and port"), "{problem}");
    }
    for (public, admin) in [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.2:8081", "127.0.0.1:8081")] {
        assert!(load(&[("JANITOR_LISTEN", public), ("JANITOR_ADMIN_LISTEN", admin)]).is_ok());
    }
}

#[test]
fn a_log_filter_is_checked_and_a_misspelt_level_is_not_a_module() {
    for good in ["info", "WARN", "off", "info,b24_janitor=debug", "b24_janitor::portal=trace,hyper=off", "2"]
    {
        assert!(load(&[("JANITOR_LOG", good)]).is_ok(), "{good}");
    }
    for (bad, message) in [
        ("inof", "`inof` is not a level"),
        ("info,hyper", "`hyper`"),
        ("a=b=c", "error parsing level filter"),
    ] {
        let problem = problem(&[("JANITOR_LOG", bad)]);
        assert_eq!(problem.variable, "JANITOR_LOG (--log)");
        assert!(problem.message.contains(message), "{problem}");
    }
    assert_eq!(problem(&[("JANITOR_LOG_FORMAT", "yaml")]).remedy, "write text or json");
}

#[test]
fn admin_hosts_are_names_alone() {
    let settings =
        load(&[("JANITOR_ADMIN_HOSTS", "Janitor.Example.com, 10.0.0.5,[::1],bücher.example")]).unwrap();
    assert_eq!(settings.admin_hosts, ["janitor.example.com", "10.0.0.5", "[::1]", "xn--bcher-kva.example"]);
    for bad in
        ["https://a.example", "a.example:8081", "*", "*.example.com", "a.example/", "a b", "a,,b", "::1"]
    {
        let problem = problem(&[("JANITOR_ADMIN_HOSTS", bad)]);
        assert_eq!(problem.value.as_deref(), Some(bad));
        assert!(problem.remedy.contains("without scheme, port"), "{problem}");
    }
}

#[cfg(unix)]
#[test]
fn bytes_that_are_no_text_are_a_problem_except_in_paths() {
    use std::os::unix::ffi::OsStringExt;
    let odd = || OsString::from_vec(b"x\xff".to_vec());
    for name in ["B24_WEBHOOK_URL", "JANITOR_LISTEN", "JANITOR_LOG", "JANITOR_ADMIN_HOSTS"] {
        let source = Source { env: [(name.to_owned(), odd())].into(), credentials_dir: None };
        let problems = Settings::load(&Flags::default(), &source, Need::NoPortal).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].message, "it is not UTF-8");
    }
    let source = Source { env: [("JANITOR_RULES".to_owned(), odd())].into(), credentials_dir: None };
    assert!(Settings::load(&Flags::default(), &source, Need::NoPortal).is_ok());
}

#[test]
fn every_problem_is_reported_in_one_pass_and_no_secret_in_any() {
    let variables = source(&[
        ("B24_WEBHOOK_URL", "https://a.bitrix24.de/rest/1/s3cr3t/profile.json"),
        ("B24_APPLICATION_TOKEN", "s3cr3t,"),
        ("B24_OAUTH_CLIENT_SECRET", "s3cr3t"),
        ("JANITOR_DB", ":memory:"),
        ("JANITOR_LISTEN", "8080"),
        ("JANITOR_ADMIN_LISTEN", "0.0.0.0:8081"),
        ("JANITOR_SILENCE_ALARM", "1 month"),
        ("JANITOR_LOG", "inof"),
        ("JANITOR_LOG_FORMAT", "xml"),
        ("JANITOR_ADMIN_HOSTS", "*"),
    ]);
    let flags = Flags { rules: Some("".into()), ..Flags::default() };
    let problems = Settings::load(&flags, &variables, Need::Portal).unwrap_err();
    let variables: Vec<&str> = problems.iter().map(|problem| problem.variable.as_str()).collect();
    assert_eq!(
        variables,
        [
            "B24_WEBHOOK_URL",
            "B24_WEBHOOK_URL",
            "B24_APPLICATION_TOKEN",
            "JANITOR_RULES (--rules)",
            "JANITOR_DB (--db)",
            "JANITOR_LISTEN (--listen)",
            "JANITOR_SILENCE_ALARM (--silence-alarm)",
            "JANITOR_LOG (--log)",
            "JANITOR_LOG_FORMAT (--log-format)",
            "JANITOR_ADMIN_HOSTS",
            "JANITOR_ADMIN_LISTEN (--admin-listen)",
        ]
    );
    for problem in &problems {
        assert!(!format!("{problem} {problem:?}").contains("s3cr3t"), "{problem}");
        assert!(!serde_json::to_string(problem).unwrap().contains("s3cr3t"));
    }
}

#[test]
fn the_settings_themselves_show_no_secret() {
    let settings = load(&[
        ("B24_WEBHOOK_URL", WEBHOOK),
        ("B24_APPLICATION_TOKEN", "s3cr3ttoken"),
        ("JANITOR_ADMIN_TOKEN", "s3cr3tadmin"),
    ])
    .unwrap();
    let application = load(&APPLICATION).unwrap();
    for settings in [settings, application] {
        let shown = format!("{settings:?} {settings:#?}");
        assert!(shown.contains("a.bitrix24.de") && !shown.contains("s3cr3t"), "{shown}");
    }
}
