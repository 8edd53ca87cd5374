//! What Slack's error codes mean: worth another try or not, and what the operator can do about it.
//!
//! The codes of incoming webhooks: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>,
//! those of chat.postMessage: <https://docs.slack.dev/reference/methods/chat.postMessage> (2026-11).

/// Codes with which Slack says that it, not the request, is the trouble.
pub(crate) fn is_transient(code: &str) -> bool {
    matches!(
        code,
        "ratelimited"
            | "rate_limited"
            | "message_limit_exceeded"
            | "internal_error"
            | "fatal_error"
            | "service_unavailable"
            | "request_timeout"
            | "rollup_error"
            | "team_added_to_org"
            | "external_channel_migrating"
    )
}

/// What to do; empty for a code that is not known here.
pub(crate) fn advice(code: &str) -> &'static str {
    match code {
        "no_service" | "no_service_id" | "no_team" | "no_active_hooks" | "team_disabled"
        | "invalid_token" => {
            "the webhook is disabled, removed or wrong; make a new one and put its URL into the secret `webhook`"
        }
        "channel_not_found" | "user_not_found" => {
            "the channel is gone, or private and without the app; check `channel`, or make a new webhook"
        }
        "channel_is_archived" | "is_archived" => "the channel is archived; unarchive it or choose another",
        "not_in_channel" => {
            "the app is not in the channel; type `/invite @app` there, or add the scope chat:write.public"
        }
        "action_prohibited"
        | "restricted_action"
        | "posting_to_general_channel_denied"
        | "ekm_access_denied" => "the workspace forbids this; ask its administrator",
        "invalid_payload"
        | "invalid_blocks"
        | "invalid_blocks_format"
        | "no_text"
        | "msg_too_long"
        | "msg_blocks_too_long"
        | "invalid_arguments" => "Slack refuses the message; check `template`",
        "invalid_auth"
        | "not_authed"
        | "account_inactive"
        | "token_revoked"
        | "token_expired"
        | "no_permission"
        | "not_allowed_token_type" => "the bot token is not valid; put a new one into the secret `token`",
        "missing_scope" => "the app lacks the scope chat:write; add it and install the app again",
        _ => "",
    }
}

/// `no_service`: a single word of a-z and `_`, which is how Slack writes codes in plain text.
pub(crate) fn code(body: &str) -> &str {
    let word = body.trim();
    let is_code =
        !word.is_empty() && word.len() <= 60 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_code { word } else { "" }
}
