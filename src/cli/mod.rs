//! The commands.

mod alerts;
mod args;
mod data;
mod demo;
mod exit;
mod explain;
mod files;
mod hunt;
mod preview;
mod quarantine;
mod replay;
mod rules;
mod run;
mod search;
mod suppressions;
mod term;
mod test_rules;
mod try_rules;

use args::{Args, Command, ConfigCommand};
use clap::{CommandFactory, Parser};
use exit::{Exit, Failure};
use std::process::ExitCode;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no mistakes.
            let code = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return code.into();
        }
    };
    let level = args.log_level.clone().unwrap_or_else(crate::config::log_level);
    crate::telemetry::start(&level, args.log_format);
    match command(args.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            term::say(&format!("planewatch: {}", failure.message));
            failure.exit.into()
        }
    }
}

fn command(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Demo(args) => demo::demo(&args),
        Command::Run(args) => run::run(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Hunt(args) => hunt::hunt(&args),
        Command::Rules(args) => rules::rules(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Search(args) => search::search(&args),
        Command::Alerts(command) => alerts::alerts(command),
        Command::Suppressions(args) => suppressions::suppressions(&args),
        Command::Quarantine(command) => quarantine::quarantine(command),
        Command::Config(command) => config(command),
        Command::Backup(args) => {
            crate::store::backup(&args.data.dir()?, &args.to)?;
            term::say(&format!("copied the state to {}", args.to.display()));
            Ok(Exit::Done)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "planewatch", &mut text);
            term::print(&text)
        }
    }
}

fn config(command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check { config } => {
            let config = crate::config::load(&config)?;
            let text = serde_saphyr::to_string(&config).map_err(|error| Failure::new(Exit::Bug, error))?;
            term::print(text.as_bytes())
        }
        ConfigCommand::Schema => {
            let schema = schemars::schema_for!(crate::config::Config);
            let text = serde_json::to_string_pretty(&schema).map_err(|error| Failure::new(Exit::Bug, error))?;
            term::print(format!("{text}\n").as_bytes())
        }
        ConfigCommand::EventSchema => {
            let text =
                serde_json::to_string_pretty(&crate::event::schema::event_schema()).map_err(|error| Failure::new(Exit::Bug, error))?;
            term::print(format!("{text}\n").as_bytes())
        }
        ConfigCommand::Example => term::print(crate::config::example().as_bytes()),
        ConfigCommand::Metrics => term::print(crate::metrics::table().as_bytes()),
    }
}
