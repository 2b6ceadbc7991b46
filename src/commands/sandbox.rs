//! `sandbox`: the simulated portal alone.

use std::str::FromStr;

use super::failure::Failure;
use super::print::Out;
use crate::cli::{NotFoundStyle, SandboxArgs};
use crate::clock::Clock;
use crate::sandbox::{self, Fault, Language, Sandbox, SandboxOptions};

/// Serves the simulated portal until it is told to stop.
pub(super) async fn sandbox(args: SandboxArgs) -> Result<(), Failure> {
    let options = options(&args)?;
    let out = Out::new(false);
    let asked_to_stop = super::serve::asked_to_stop();
    let listener = crate::http::listen::bind(&args.listen).await?;
    let address = listener.local_addr()?;
    let portal = Sandbox::new(options, Clock::System);
    let webhook = portal.webhook_url(address);
    out.say(format!("a simulated Bitrix24 portal with {} leads; nothing here is real", portal.lead_count()))?;
    out.say(format!("webhook: {webhook}"))?;
    out.say(format!("stats:   http://{address}/sandbox/stats"))?;
    out.say(format!("leads:   http://{address}/sandbox/leads?stage=JUNK"))?;
    match &args.events_url {
        Some(url) => out.say(format!("events:  sent to {url}"))?,
        None => {
            out.say("events:  not sent; --events-url http://127.0.0.1:8080/bitrix24/events sends them")?
        }
    }
    out.say("in another terminal:")?;
    out.say(format!("  B24_WEBHOOK_URL={webhook} b24-janitor plan --rules rules.yaml"))?;
    out.say("Ctrl-C ends it")?;
    portal.serve(listener, asked_to_stop).await?;
    Ok(())
}

fn options(args: &SandboxArgs) -> Result<SandboxOptions, Failure> {
    let wrong = |flag: &str, what: &str| Failure::usage(format!("{flag}: {what}"));
    let at_least = |flag: &str, value: f64, least: f64| {
        if value.is_finite() && value >= least {
            Ok(value)
        } else {
            Err(wrong(flag, &format!("at least {least}")))
        }
    };
    let faults = args
        .faults
        .iter()
        .map(|text| Fault::from_str(text).map_err(|error| wrong("--fault", &error.to_string())))
        .collect::<Result<Vec<Fault>, Failure>>()?;
    Ok(SandboxOptions {
        leads: usize::try_from(args.leads).unwrap_or(usize::MAX),
        seed: args.seed,
        events_url: args.events_url.clone(),
        application_token: args.application_token.clone(),
        requests_per_second: at_least("--requests-per-second", args.requests_per_second, 0.01)?,
        burst: at_least("--burst", f64::from(args.burst), 1.0)?,
        method_seconds: at_least("--method-seconds", args.method_seconds, 0.01)?,
        window_seconds: args.window_seconds.max(10),
        delete_seconds: at_least("--delete-seconds", args.delete_seconds, 0.0)?,
        sleep_scale: at_least("--sleep-scale", args.sleep_scale, 0.0)?,
        not_found: match args.not_found {
            NotFoundStyle::Item | NotFoundStyle::Restricted => sandbox::NotFoundStyle::Item,
            NotFoundStyle::Lead => sandbox::NotFoundStyle::Lead,
            NotFoundStyle::Docs => sandbox::NotFoundStyle::Documented,
        },
        restricted: args.not_found == NotFoundStyle::Restricted,
        language: if args.russian { Language::Russian } else { Language::English },
        faults,
        ..SandboxOptions::default()
    })
}
