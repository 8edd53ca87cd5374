//! Every bound of the stand-ins, their own first, then those of the services they stand in for.

use std::time::Duration;

/// A request larger than this is answered 413. Both services take far less.
pub(crate) const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Requests kept; a test that sends more gets 507 rather than a list with holes.
pub(crate) const RECEIVED_MAX: usize = 200_000;
/// Faults that may wait their turn.
pub(crate) const FAULTS_MAX: usize = 1_000;
/// The longest that a fault may hold an answer back.
pub(crate) const FAULT_DELAY_MAX: Duration = Duration::from_secs(600);

/// <https://docs.slack.dev/reference/block-kit/blocks> (read 2026-11): blocks in one message.
pub(crate) const SLACK_BLOCKS_MAX: usize = 50;
/// Characters of a text object, and so of a section's text.
pub(crate) const SLACK_TEXT_CHARS_MAX: usize = 3_000;
/// Characters of a header.
pub(crate) const SLACK_HEADER_CHARS_MAX: usize = 150;
/// Fields of a section, and the characters of each.
pub(crate) const SLACK_FIELDS_MAX: usize = 10;
pub(crate) const SLACK_FIELD_CHARS_MAX: usize = 2_000;
/// Elements of a context block and of an actions block.
pub(crate) const SLACK_CONTEXT_ELEMENTS_MAX: usize = 10;
pub(crate) const SLACK_ACTIONS_ELEMENTS_MAX: usize = 25;
/// Characters of a block's id.
pub(crate) const SLACK_BLOCK_ID_CHARS_MAX: usize = 255;
/// Characters of a markdown block.
pub(crate) const SLACK_MARKDOWN_CHARS_MAX: usize = 12_000;
/// Attachments of one message (`too_many_attachments`).
pub(crate) const SLACK_ATTACHMENTS_MAX: usize = 100;

/// <https://developers.hubspot.com/docs/api-reference/legacy/crm/objects/contacts/guide> (read 2026-11): inputs
/// of one batch.
pub(crate) const HUBSPOT_INPUTS_MAX: usize = 100;
/// <https://developers.hubspot.com/docs/api-reference/crm-notes-v3/guide> (read 2026-11): characters of a note.
pub(crate) const HUBSPOT_NOTE_CHARS_MAX: usize = 65_536;
/// Characters of a single-line property.
pub(crate) const HUBSPOT_PROPERTY_CHARS_MAX: usize = 65_536;
