//! `notify test`: whether notices arrive. A running service sends them itself, since its secrets may be seen by nobody
//! else, and its portal has one pace.

use serde_json::json;

use super::alone;
use super::courier::courier;
use super::failure::Failure;
use super::print::Out;
use super::run::ask_service;
use super::workshop::{self, Whose};
use crate::cli::NotifyTestArgs;
use crate::engine::notify::{self as engine, Tested};
use crate::settings::Settings;

/// Sends a test notice to one target or to all, and says what came back.
pub(super) async fn test(settings: &Settings, args: &NotifyTestArgs) -> Result<(), Failure> {
    let out = Out::new(args.json.json);
    let name = args.target.clone();
    let told: Vec<Tested> = match workshop::whose(&settings.db)? {
        Whose::Service(_) => {
            let store = workshop::open_store(&settings.db, false)?;
            let bar = out.progress(0, "the running service sends");
            let told = ask_service(settings, &store, "notify", &json!({ "target": name })).await;
            bar.finish_and_clear();
            serde_json::from_value(told?)?
        }
        Whose::Ours(lock) => {
            let rules = workshop::load_rules(settings)?;
            let courier = courier()?;
            alone::look(settings, rules, lock, async |ctx| {
                Ok(engine::test(&ctx.delivering(courier), name.as_deref()).await?)
            })
            .await?
        }
    };
    if told.is_empty() {
        out.say("nobody is told of anything: there is no `notify:` in the rules")?;
    }
    for one in &told {
        out.object(one)?;
        let word = if one.ok { "ok" } else { "FAILED" };
        out.say(format!("{} ({}): {word}: {}", one.target, one.way, one.said))?;
    }
    match told.iter().filter(|one| !one.ok).count() {
        0 => Ok(()),
        failed => Err(Failure::of(format!("{failed} of {} test notices did not arrive", told.len()))),
    }
}
