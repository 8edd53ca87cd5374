//! The stand-ins as a program: `stand-ins` starts both, prints one line of JSON with what a caller must know,
//! and runs until it is told to stop.

use std::io::Read;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::{env, io, thread};

use clap::Parser;
use serde_json::json;
use stand_ins::{HubSpot, PortalSetup, Slack, SlackSetup};
use tokio::sync::oneshot;

/// Stand-ins for Slack and HubSpot on loopback: they refuse what the real ones refuse, and keep what they got.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where Slack listens; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    slack: SocketAddr,
    /// Where HubSpot listens; port 0 is any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    hubspot: SocketAddr,
    /// One more contact property with unique values, beside those that crm-sync needs. May be repeated.
    #[arg(long, value_name = "NAME")]
    unique_property: Vec<String>,
    /// One more contact property. May be repeated.
    #[arg(long, value_name = "NAME")]
    property: Vec<String>,
    /// End when standard input ends: then the stand-ins never outlive the program that started them.
    #[arg(long)]
    until_stdin_ends: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("stand-ins: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> io::Result<()> {
    let slack = Slack::open(args.slack, slack_setup()).await?;
    let token = env::var("STAND_IN_HUBSPOT_TOKEN").unwrap_or_else(|_| HubSpot::random_token());
    let mut setup = PortalSetup::default();
    setup.unique.extend(args.unique_property);
    setup.plain.extend(args.property);
    let hubspot = HubSpot::open(args.hubspot, &token, &setup).await?;
    let facts = json!({
        "slack": { "url": slack.url(), "webhook_url": slack.webhook_url(), "bot_token": slack.bot_token() },
        "hubspot": { "url": hubspot.url(), "token": hubspot.token() },
    });
    println!("{facts}");
    wait(args.until_stdin_ends).await
}

/// Tokens and the webhook's path may be given, so that the stand-ins can be started again unchanged.
fn slack_setup() -> SlackSetup {
    let random = SlackSetup::default();
    SlackSetup {
        webhook_path: env::var("STAND_IN_SLACK_WEBHOOK_PATH").unwrap_or(random.webhook_path),
        bot_token: env::var("STAND_IN_SLACK_TOKEN").unwrap_or(random.bot_token),
    }
}

async fn wait(until_stdin_ends: bool) -> io::Result<()> {
    if !until_stdin_ends {
        return tokio::signal::ctrl_c().await;
    }
    tokio::select! {
        stopped = tokio::signal::ctrl_c() => stopped,
        () = stdin_ends() => Ok(()),
    }
}

async fn stdin_ends() {
    let (ended, wait) = oneshot::channel();
    // A thread of its own: a blocking read of tokio's would keep the runtime from ending.
    thread::spawn(move || {
        let mut sink = [0; 256];
        while io::stdin().read(&mut sink).is_ok_and(|read| read > 0) {}
        ended.send(())
    });
    wait.await.unwrap_or_default();
}
