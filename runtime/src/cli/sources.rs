//! Sources: who may send, with which secrets until when, and who was turned away.

use clap::{Args, Subcommand};

use super::daemon::{Place, Query};
use super::events::show_facts;
use super::failure::Failure;
use super::screen::{Screen, Tone};
use super::table::Table;
use super::{Ended, Result};
use crate::admin::view::{HandshakeView, RefusalView, SourceView, SourcesView, span};
use crate::words::event::Name;

/// Show the configured senders.
#[derive(Debug, Subcommand)]
pub(super) enum Sources {
    Show(Show),
}

/// Show sources: path, scheme, each secret with its end, and the last 100 refusals with reason and address.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  longshore sources show sendpilot")]
pub(super) struct Show {
    /// Only this source; none: all of them, and the refusals that belong to none.
    name: Option<Name>,
    #[command(flatten)]
    place: Place,
}

impl Sources {
    pub(super) async fn run(self, screen: &Screen) -> Result {
        let Sources::Show(show) = self;
        let mut daemon = show.place.connect().await?;
        let mut view: SourcesView = daemon.get("/sources", &Query::default()).await?;
        if let Some(name) = &show.name {
            view = only(view, name)?;
        }
        if screen.json {
            screen.print_json(&view)?;
        } else {
            screen.data(&whole(&view, screen))?;
        }
        Ok(Ended::Well)
    }
}

fn only(view: SourcesView, name: &Name) -> Result<SourcesView> {
    let known: Vec<_> = view.sources.iter().map(|source| source.name.to_string()).collect();
    let sources: Vec<_> = view.sources.into_iter().filter(|source| source.name == *name).collect();
    if sources.is_empty() {
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::failed(format!("the daemon has no source `{name}`; it has {known}")));
    }
    Ok(SourcesView { sources, elsewhere: Vec::new() })
}

fn whole(view: &SourcesView, screen: &Screen) -> String {
    let mut parts: Vec<_> = view.sources.iter().map(|source| one(source, screen)).collect();
    if !view.elsewhere.is_empty() {
        parts.push(format!("refusals that belong to no source\n{}", refusals(&view.elsewhere).show(screen)));
    }
    parts.join("\n")
}

fn one(source: &SourceView, screen: &Screen) -> String {
    let enabled = if source.enabled { "yes" } else { "no: it answers 404" };
    let rate = source.rate.map_or_else(|| "no limit".to_owned(), |rate| format!("{rate}/s"));
    let facts = [
        ("source", source.name.to_string()),
        ("path", source.path.clone()),
        ("enabled", enabled.to_owned()),
        ("scheme", source.scheme.clone()),
        ("rate", rate),
        ("dedupe window", span(std::time::Duration::from_millis(source.dedupe_window_ms))),
    ];
    let mut text = show_facts(&facts, screen);
    let mut secrets = Table::new(["SECRET", "FROM", "ENDS"]);
    for secret in &source.secrets {
        let tone = if secret.live { Tone::Plain } else { Tone::Waiting };
        secrets.row(tone, [secret.fingerprint.to_string(), secret.from.clone(), secret.why.clone()]);
    }
    text += &format!("\n{}", secrets.show(screen));
    if !source.handshakes.is_empty() {
        text += &format!("\n{}", handshakes(&source.handshakes).show(screen));
    }
    text += &match source.refusals.is_empty() {
        true => "\nnothing was refused since the daemon started\n".to_owned(),
        false => format!("\n{}", refusals(&source.refusals).show(screen)),
    };
    text
}

fn handshakes(handshakes: &[HandshakeView]) -> Table {
    let mut table = Table::new(["HANDSHAKE", "ANSWER", "SIGNED", "ANSWERED", "LAST"]);
    for handshake in handshakes {
        let signed = if handshake.signed { "yes" } else { "no" };
        let (tone, last) = match (&handshake.file, handshake.last) {
            (Some(file), _) if handshake.pending => {
                (Tone::Waiting, format!("to come, into {}", file.display()))
            }
            (_, None) => (Tone::Plain, "never".to_owned()),
            (_, Some(at)) => (Tone::Plain, at.to_string()),
        };
        let (when, gives) = (handshake.when.clone(), handshake.gives.clone());
        table.row(tone, [when, gives, signed.to_owned(), handshake.answered.to_string(), last]);
    }
    table
}

fn refusals(refusals: &[RefusalView]) -> Table {
    let mut table = Table::new(["REFUSED", "ADDRESS", "STATUS", "REASON", "DETAIL"]);
    for refusal in refusals {
        let status = if refusal.status == 0 { "closed".to_owned() } else { refusal.status.to_string() };
        table.row(
            Tone::Plain,
            [
                refusal.at.to_string(),
                refusal.address.clone(),
                status,
                refusal.reason.clone(),
                refusal.detail.clone(),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::view::SecretView;
    use crate::words::secret::{Fingerprint, Secret};
    use crate::words::time::Millis;

    fn fingerprint(text: &str) -> Fingerprint {
        Secret::new(text).fingerprint()
    }

    fn view() -> SourcesView {
        let secret = |text: &str, from: &str, live, why: &str| SecretView {
            fingerprint: fingerprint(text),
            from: from.to_owned(),
            ends: None,
            demoted_at: None,
            live,
            why: why.to_owned(),
        };
        let refusal = |reason: &str, status| RefusalView {
            at: Millis(1_790_000_000_123),
            address: "203.0.113.7".to_owned(),
            reason: reason.to_owned(),
            status,
            detail: "no live secret made this signature (2 tried)".to_owned(),
        };
        let source = SourceView {
            name: Name::new("sendpilot").unwrap(),
            path: "/webhooks/sendpilot".to_owned(),
            enabled: true,
            scheme: "preset sendpilot".to_owned(),
            dedupe_window_ms: 7 * 86_400_000,
            rate: None,
            secrets: vec![
                secret("a", "env:SENDPILOT_SECRET", true, "no end"),
                secret(
                    "b",
                    "env:SENDPILOT_SECRET_OLD",
                    false,
                    "ended 2026-09-20T00:00:00.000Z, as configured",
                ),
            ],
            handshakes: Vec::new(),
            refusals: vec![refusal("mismatch", 401)],
        };
        SourcesView { sources: vec![source], elsewhere: vec![refusal("handshake", 0)] }
    }

    #[test]
    fn a_source_shows_its_secrets_and_whom_it_refused() {
        let expected = format!(
            "\
source         sendpilot
path           /webhooks/sendpilot
enabled        yes
scheme         preset sendpilot
rate           no limit
dedupe window  7d

SECRET        FROM                      ENDS
{}  env:SENDPILOT_SECRET      no end
{}  env:SENDPILOT_SECRET_OLD  ended 2026-09-20T00:00:00.000Z, as configured

REFUSED                   ADDRESS      STATUS  REASON    DETAIL
2026-09-21T14:13:20.123Z  203.0.113.7  401     mismatch  no live secret made this signature (2 tried)

refusals that belong to no source
REFUSED                   ADDRESS      STATUS  REASON     DETAIL
2026-09-21T14:13:20.123Z  203.0.113.7  closed  handshake  no live secret made this signature (2 tried)
",
            fingerprint("a"),
            fingerprint("b")
        );
        assert_eq!(whole(&view(), &Screen::plain()), expected);
    }

    #[test]
    fn a_source_shows_its_handshakes() {
        let handshake = |when: &str, file: Option<&str>, answered, last| HandshakeView {
            when: when.to_owned(),
            gives: "200, JSON, made with the secret".to_owned(),
            signed: file.is_none(),
            file: file.map(Into::into),
            pending: answered == 0 && file.is_some(),
            answered,
            last,
        };
        let mut view = view();
        view.sources[0].handshakes = vec![
            handshake("GET with query parameter `crc_token`", None, 2, Some(Millis(1_790_000_000_123))),
            handshake("POST with header `X-Hook-Secret`", Some("secrets/asana"), 0, None),
            handshake("HEAD", None, 0, None),
        ];
        let shown = whole(&view, &Screen::plain());
        let (_, table) = shown.split_once("\nHANDSHAKE").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        assert_eq!(
            table,
            "                             ANSWER                           SIGNED  ANSWERED  LAST
GET with query parameter `crc_token`  200, JSON, made with the secret  yes     2         2026-09-21T14:13:20.123Z
POST with header `X-Hook-Secret`      200, JSON, made with the secret  no      0         to come, into secrets/asana
HEAD                                  200, JSON, made with the secret  yes     0         never"
        );
    }

    #[test]
    fn an_unknown_source_is_answered_with_the_known_ones() {
        let failure = only(view(), &Name::new("stripe").unwrap()).unwrap_err();
        assert_eq!(failure.to_string(), "the daemon has no source `stripe`; it has sendpilot");
        assert_eq!(only(view(), &Name::new("sendpilot").unwrap()).unwrap().sources.len(), 1);
    }
}
