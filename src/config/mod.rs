//! Configuration: one YAML file, read once, checked whole. The only module that reads the environment.

mod expand;
mod load;
mod schema;

pub use load::{ConfigError, check, example, load, log_level, read_list, restart_with};
pub use schema::{AccountConfig, AdminConfig, Config, ListConfig, RulesConfig, SourceConfig};
