//! What a plugin asks for. The operator's configuration grants it, or the daemon says at start what is missing.
//!
//! The functions here are in scope inside `settings: [...]` of [`plugin!`](crate::plugin!):
//!
//! ```
//! use longshore_sdk::manifest::{json, secret, text};
//!
//! let channel = text("channel").default("#sales").help("Where to post");
//! let token = secret("token").required().help("Bot token, xoxb-…");
//! let fields = json("fields").default(r#"{ "city": "/data/city" }"#);
//! assert!(token.required && !channel.required);
//! assert_eq!(fields.default.as_deref(), Some(r#"{ "city": "/data/city" }"#));
//! ```
//!
//! A declared default needs no code: the host gives it to [`settings::get`](crate::settings::get) where the
//! operator wrote nothing.

/// What a plugin asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Name of the plugin.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Event type patterns (`message.*`); empty means every event.
    pub events: Vec<String>,
    /// Origins it wants to call (`https://api.hubapi.com`).
    pub origins: Vec<String>,
    /// Settings and secrets it reads.
    pub settings: Vec<Setting>,
}

/// One setting, or the name of one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name under `settings:` or `secrets:`.
    pub key: String,
    /// What may be written there.
    pub kind: SettingKind,
    /// The daemon does not start a handler without it.
    pub required: bool,
    /// Used where the operator wrote nothing.
    pub default: Option<String>,
    /// One sentence for the operator.
    pub help: String,
}

/// What may be written for a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// Any text.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list or an object.
    Json,
    /// A secret: written under `secrets:`, used by name, never read.
    Secret,
}

/// A setting that is text.
pub fn text(key: &str) -> Setting {
    Setting::new(key, SettingKind::Text)
}

/// A setting that is a number.
pub fn number(key: &str) -> Setting {
    Setting::new(key, SettingKind::Number)
}

/// A setting that is `true` or `false`.
pub fn boolean(key: &str) -> Setting {
    Setting::new(key, SettingKind::Boolean)
}

/// A setting that is a list or an object.
pub fn json(key: &str) -> Setting {
    Setting::new(key, SettingKind::Json)
}

/// The name of a secret.
pub fn secret(key: &str) -> Setting {
    Setting::new(key, SettingKind::Secret)
}

impl Setting {
    fn new(key: &str, kind: SettingKind) -> Setting {
        Setting { key: key.to_owned(), kind, required: false, default: None, help: String::new() }
    }

    /// The daemon refuses to start a handler without it.
    #[must_use]
    pub fn required(mut self) -> Setting {
        self.required = true;
        self
    }

    /// Used where the operator wrote nothing; JSON text for [`json`].
    #[must_use]
    pub fn default(mut self, value: &str) -> Setting {
        self.default = Some(value.to_owned());
        self
    }

    /// One sentence for the operator.
    #[must_use]
    pub fn help(mut self, sentence: &str) -> Setting {
        self.help = sentence.to_owned();
        self
    }
}

impl Manifest {
    #[doc(hidden)]
    pub fn of(name: &str, version: &str, description: &str) -> Manifest {
        Manifest {
            name: name.to_owned(),
            version: version.to_owned(),
            description: description.to_owned(),
            events: Vec::new(),
            origins: Vec::new(),
            settings: Vec::new(),
        }
    }
}
