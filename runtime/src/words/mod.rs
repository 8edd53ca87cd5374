//! The words: types that every room shares. They import nothing of ours and do nothing but hold and print.

pub mod attempt;
pub mod digest;
pub mod effect;
pub mod event;
pub mod lane;
pub mod limits;
pub mod secret;
pub mod shelf;
pub mod tape;
pub mod time;
pub mod yaml;
