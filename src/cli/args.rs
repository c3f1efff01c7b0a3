//! The command line.

use super::data::DataArgs;
use crate::telemetry::LogFormat;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Collects what happens on the control planes of AWS and Kubernetes, and says when it matters.
#[derive(Debug, Parser)]
#[command(name = "planewatch", version, about, max_term_width = 100)]
pub(super) struct Args {
    /// What to log, as `info`, `debug` or `planewatch=debug,aws_config=warn`. Default: $`PLANEWATCH_LOG`, else info.
    #[arg(long, global = true)]
    pub(super) log_level: Option<String>,
    /// How to log.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) log_format: LogFormat,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs sample data through the real pipeline, and says what to try next. Needs no configuration.
    Demo(DemoArgs),
    /// Runs the service.
    Run(RunArgs),
    /// Prints the events of files as JSON lines. Keeps nothing.
    Replay(ReplayArgs),
    /// Runs rules over files and prints the alerts. Keeps nothing.
    Hunt(HuntArgs),
    /// The rules: which there are, whether they are sound, whether their tests pass.
    Rules(RulesArgs),
    /// Finds stored events, newest first.
    Search(SearchArgs),
    /// Says of an event which tests of a filter or a rule it passes, and what it has where they look.
    Explain(ExplainArgs),
    /// What the rules raised: kept a year, dismissed but never deleted.
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// What is known to be harmless: which there are and how often they hid a match, whether they are sound.
    Suppressions(SuppressionsArgs),
    /// What could not become events.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Checks and describes the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Copies the state (ledger, quarantine, counters) while the service runs.
    Backup(BackupArgs),
    /// Prints completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Where the demo keeps its files.
    #[arg(long, default_value = "planewatch-demo")]
    pub(super) dir: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The configuration file.
    #[arg(short, long)]
    pub(super) config: PathBuf,
    /// End when every source is idle: the queue empty, the folder read.
    #[arg(long)]
    pub(super) drain: bool,
    /// How the sum is printed at the end.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArgs {
    /// Files and folders; `-` is standard input.
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// Write the events to this file instead of standard output.
    #[arg(long)]
    pub(super) output_file: Option<PathBuf>,
    /// Print only events that match this filter.
    #[arg(long)]
    pub(super) filter: Option<String>,
    /// The Kubernetes cluster that audit events are of.
    #[arg(long, default_value = "")]
    pub(super) cluster: String,
    /// How bad records are reported.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct HuntArgs {
    /// Files and folders; `-` is standard input.
    #[arg(required = true)]
    pub(super) paths: Vec<PathBuf>,
    /// A folder or file with rules, ours or Sigma's, or `builtin`. Several are one set. Default: builtin.
    #[arg(long)]
    pub(super) rules: Vec<String>,
    /// A folder or file with suppressions.
    #[arg(long)]
    pub(super) suppressions: Vec<PathBuf>,
    /// Print each match instead of alerts.
    #[arg(long)]
    pub(super) matches: bool,
    /// A rule that does not load makes the exit code 1.
    #[arg(long)]
    pub(super) strict: bool,
    /// A lookup list that rules name as `@NAME`: NAME=FILE, one value a line.
    #[arg(long = "list")]
    pub(super) lists: Vec<String>,
    /// The Kubernetes cluster that audit events are of.
    #[arg(long, default_value = "")]
    pub(super) cluster: String,
    /// How alerts and bad records are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct RulesArgs {
    #[command(subcommand)]
    pub(super) command: RulesCommand,
    /// A folder or file with rules, ours or Sigma's, or `builtin`. Several are one set. Default: builtin.
    #[arg(long, global = true)]
    pub(super) rules: Vec<String>,
    /// A lookup list that rules name as `@NAME`: NAME=FILE, one value a line.
    #[arg(long = "list", global = true)]
    pub(super) lists: Vec<String>,
    /// How rules are printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// Prints every rule; with a data folder also how often it matched there.
    List {
        /// The data folder.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
    /// Prints the file of a rule, also of one that is built in: to be copied and changed.
    Show {
        /// Its id.
        id: String,
    },
    /// Says which rules do not load, lack a test of either kind, a description or ATT&CK tags.
    Lint,
    /// Runs the tests that rules bring.
    Test,
    /// Prints the alerts that rules would have raised over the stored events.
    Try(TryArgs),
    /// Makes rules live that are in shadow (`state: shadow`), in their files.
    Promote {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct TryArgs {
    /// Ids of the rules. None: all of `--rules`.
    pub(super) ids: Vec<String>,
    #[command(flatten)]
    pub(super) data: DataArgs,
    /// Only events since then: `24h`, `7d`, or a time like 2026-01-02T03:04:05Z.
    #[arg(long)]
    pub(super) since: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").args(["filter", "rule"]).required(true)))]
#[command(group(clap::ArgGroup::new("event").args(["files", "id"]).required(true)))]
pub(super) struct ExplainArgs {
    /// The filter.
    pub(super) filter: Option<String>,
    /// The rule of this id instead.
    #[arg(long)]
    pub(super) rule: Option<String>,
    /// Where the rule is: a folder or file, or `builtin`. Default: builtin.
    #[arg(long)]
    pub(super) rules: Vec<String>,
    /// A file with the event; of several events each is explained. `-` is standard input.
    #[arg(long = "file")]
    pub(super) files: Vec<PathBuf>,
    /// The stored event of this id: its `_id`, eventID or auditID.
    #[arg(long, requires = "data_dir")]
    pub(super) id: Option<String>,
    /// The data folder.
    #[arg(long)]
    pub(super) data_dir: Option<PathBuf>,
    /// A lookup list that is named as `@NAME`: NAME=FILE, one value a line.
    #[arg(long = "list")]
    pub(super) lists: Vec<String>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum AlertsCommand {
    /// Prints the alerts, newest first.
    List {
        #[command(flatten)]
        data: DataArgs,
        /// Those that were dismissed as well.
        #[arg(long)]
        dismissed: bool,
        /// Only those of this rule. Several: of these.
        #[arg(long = "rule")]
        rules: Vec<String>,
        /// Only those with an event since then: `24h`, `7d`, or a time like 2026-01-02T03:04:05Z.
        #[arg(long)]
        since: Option<String>,
        /// How alerts are printed.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Prints one alert with its events.
    Show {
        /// Its id.
        id: String,
        #[command(flatten)]
        data: DataArgs,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Dismisses an alert. It stays, and the next match in its window opens a new one.
    Dismiss {
        /// Its id.
        id: String,
        /// Why.
        #[arg(long, value_enum)]
        reason: DismissReason,
        /// Why, in words.
        #[arg(long)]
        text: Option<String>,
        /// Who dismisses it.
        #[arg(long)]
        by: String,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Gives an alert to a person; without a name it is nobody's again.
    Assign {
        /// Its id.
        id: String,
        /// To whom.
        person: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Adds a note to an alert.
    Note {
        /// Its id.
        id: String,
        /// What is to be remembered.
        text: String,
        /// Who writes it.
        #[arg(long)]
        by: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Why an alert is dismissed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DismissReason {
    /// It is what the business does.
    BusinessOp,
    /// The company's policy allows it.
    CompanyPolicy,
    /// It was maintenance.
    Maintenance,
    /// Something else: say what with --text.
    Other,
}

impl DismissReason {
    /// Its name in an alert.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::BusinessOp => "BUSINESS_OP",
            Self::CompanyPolicy => "COMPANY_POLICY",
            Self::Maintenance => "MAINTENANCE",
            Self::Other => "OTHER",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct SuppressionsArgs {
    #[command(subcommand)]
    pub(super) command: SuppressionsCommand,
    /// A folder or file with suppressions.
    #[arg(long, global = true)]
    pub(super) suppressions: Vec<PathBuf>,
    /// The data folder, for how often each hid a match.
    #[arg(long, global = true)]
    pub(super) data_dir: Option<PathBuf>,
    /// A lookup list that filters name as `@NAME`: NAME=FILE, one value a line.
    #[arg(long = "list", global = true)]
    pub(super) lists: Vec<String>,
    /// How suppressions are printed.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum SuppressionsCommand {
    /// Prints every suppression, with its hits in the data folder.
    List,
    /// Says which do not load, or hide nothing any more.
    Lint,
    /// Says what a filter would have hidden of the stored events, by user, action and rule, and gives advice.
    Preview(PreviewArgs),
    /// Saves a suppression as a file.
    Add(AddArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct PreviewArgs {
    /// The filter.
    pub(super) filter: String,
    /// Only matches of this rule. Several: of any of them.
    #[arg(long = "rule")]
    pub(super) for_rules: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// Its id, after which the file is named.
    pub(super) id: String,
    /// The folder that it is saved in.
    #[arg(long)]
    pub(super) folder: PathBuf,
    /// Which matches it hides.
    #[arg(long)]
    pub(super) filter: String,
    /// Who answers for it.
    #[arg(long)]
    pub(super) owner: String,
    /// Why it is harmless.
    #[arg(long)]
    pub(super) reason: String,
    /// Only for this rule. Several: for these. None: for all.
    #[arg(long = "rule")]
    pub(super) for_rules: Vec<String>,
    /// When it ends: 2027-01-31, or a time.
    #[arg(long)]
    pub(super) expires: Option<String>,
    /// Who makes it.
    #[arg(long)]
    pub(super) by: Option<String>,
    /// Saves it although it never matches again.
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SearchArgs {
    /// Which events, in the filter language: `eventName = "ConsoleLogin" and outcome = "failure"`. Empty: all.
    #[arg(default_value = "")]
    pub(super) filter: String,
    #[command(flatten)]
    pub(super) data: DataArgs,
    /// Only events since then: `24h`, `7d`, or a time like 2026-01-02T03:04:05Z.
    #[arg(long)]
    pub(super) since: Option<String>,
    /// Only events until then.
    #[arg(long)]
    pub(super) until: Option<String>,
    /// At most so many events; 0: all.
    #[arg(long, default_value_t = 100)]
    pub(super) limit: usize,
    /// How events are printed.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// Lists entries, oldest first.
    List {
        #[command(flatten)]
        data: DataArgs,
        /// How entries are printed.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Shows one entry with the beginning of its bytes.
    Show {
        /// The entry's number.
        id: i64,
        #[command(flatten)]
        data: DataArgs,
        /// How the entry is printed.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Has the running (or next) `run` read entries again.
    Replay(QuarantineIds),
    /// Removes entries for good.
    Drop(QuarantineIds),
}

#[derive(Debug, clap::Args)]
pub(super) struct QuarantineIds {
    /// The entries' numbers.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(super) ids: Vec<i64>,
    /// All entries.
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) data: DataArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Checks a configuration file and prints what it was understood to say.
    Check {
        /// The configuration file.
        #[arg(short, long)]
        config: PathBuf,
    },
    /// Prints the JSON Schema of the configuration file, for editors.
    Schema,
    /// Prints the JSON Schema of an event.
    EventSchema,
    /// Prints an example.
    Example,
    /// Prints the table of metrics.
    Metrics,
}

#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not be there yet.
    pub(super) to: PathBuf,
    #[command(flatten)]
    pub(super) data: DataArgs,
}
