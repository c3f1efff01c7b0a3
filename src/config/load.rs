//! Reading the file, and checking what types cannot.

use super::expand::expand;
use super::schema::{Config, LATE_SECS, ListConfig, SourceConfig};
use crate::filter::{Filter, Lists};
use crate::sources::k8s_webhook;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The longest configuration file, bytes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not mean anything.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        what: String,
    },
}

/// Reads and checks a configuration file. Paths in it are relative to where the program runs.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let io = |source| ConfigError::Io { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(io)?.len();
    let invalid = |what| ConfigError::Invalid { path: path.to_owned(), what };
    if length > CONFIG_BYTES_MAX {
        return Err(invalid(format!("{length} bytes, at most {CONFIG_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    parse(&text, &|name| environment(name)).map_err(invalid)
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The program's own path, where the environment does not set this variable yet.
pub fn restart_with(variable: &str) -> Option<PathBuf> {
    if environment(variable).is_some() { None } else { std::env::current_exe().ok() }
}

/// The log level of the environment, `PLANEWATCH_LOG`, else `info`.
pub fn log_level() -> String {
    environment("PLANEWATCH_LOG").unwrap_or_else(|| "info".to_owned())
}

fn parse(text: &str, variables: &dyn Fn(&str) -> Option<String>) -> Result<Config, String> {
    let config: Config = serde_saphyr::from_str(text).map_err(|error| format!("{error}"))?;
    // Typed first, so that mistakes have their line; texts are replaced in what was read.
    let mut value = serde_json::to_value(&config).map_err(|error| error.to_string())?;
    expand(&mut value, variables)?;
    let config: Config = serde_json::from_value(value).map_err(|error| error.to_string())?;
    check(&config)?;
    Ok(config)
}

/// Checks what the types cannot: names, addresses, filters, lists.
pub fn check(config: &Config) -> Result<(), String> {
    let mut names = HashSet::new();
    for source in &config.sources {
        let name = source.name();
        if name.is_empty() || name.len() > 64 || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            return Err(format!("source `{name}`: a name has 1 to 64 letters, digits, `-`, `_` or `.`"));
        }
        if !names.insert(name) {
            return Err(format!("two sources are named `{name}`; names are unique"));
        }
        if let SourceConfig::CloudtrailSqs(it) = source {
            if it.buckets.is_empty() {
                return Err(format!("source `{name}`: `buckets:` is empty, so nothing could be read; list the trail's bucket"));
            }
            if !it.queue_url.starts_with("http") {
                return Err(format!("source `{name}`: queue_url `{}` is not a URL", it.queue_url));
            }
            if !(1..=43_200).contains(&it.visibility_timeout_secs) {
                return Err(format!("source `{name}`: visibility_timeout_secs is {}, must be 1 to 43200", it.visibility_timeout_secs));
            }
        }
        if let SourceConfig::K8sLog(it) = source {
            it.check().map_err(|what| format!("source `{name}`: {what}"))?;
        }
        if let SourceConfig::Ingest(it) = source {
            it.check().map_err(|what| format!("source `{name}`: {what}"))?;
        }
        if let SourceConfig::K8sWatch(it) = source {
            it.check().map_err(|what| format!("source `{name}`: {what}"))?;
        }
    }
    check_leases(config)?;
    let webhooks = config.sources.iter().filter_map(|it| if let SourceConfig::K8sWebhook(it) = it { Some(it) } else { None });
    k8s_webhook::check(&webhooks.collect::<Vec<_>>())?;
    let lists = config.read_lists()?;
    for source in &config.sources {
        for filter in source.drop() {
            Filter::new(filter, &lists).map_err(|error| format!("source `{}`, drop: {error}", source.name()))?;
        }
    }
    if let Some(rules) = &config.rules {
        let (late, wait) = (rules.late_max_secs, rules.first_seen_wait_secs);
        if !LATE_SECS.contains(&late) {
            return Err(format!("rules.late_max_secs is {late}, must be {} to {}", LATE_SECS.start(), LATE_SECS.end()));
        }
        if wait > late {
            return Err(format!("rules.first_seen_wait_secs is {wait}, must be at most rules.late_max_secs, {late}"));
        }
    }
    if config.retention_hours == 0 {
        return Err("retention_hours is 0; events would be gone at once".to_owned());
    }
    if let Some(admin) = &config.admin {
        let address: SocketAddr =
            admin.listen.parse().map_err(|_| format!("admin.listen `{}` is not an address and port, like 127.0.0.1:9100", admin.listen))?;
        if !address.ip().is_loopback() && !admin.allow_public {
            return Err(format!(
                "admin.listen `{address}` can be reached by others and has no login; use 127.0.0.1, or set admin.allow_public"
            ));
        }
    }
    Ok(())
}

/// Two sources with one Lease would both be the leader, and overwrite what the other says in it.
fn check_leases(config: &Config) -> Result<(), String> {
    let mut leases = HashSet::new();
    for source in &config.sources {
        let SourceConfig::K8sWatch(it) = source else { continue };
        let Some(lease) = &it.lease else { continue };
        if !leases.insert((&it.kubeconfig, &it.context, &lease.namespace, &lease.name)) {
            return Err(format!("source `{}`: another source has this lease; give each its own `lease.name`", it.name));
        }
    }
    Ok(())
}

impl Config {
    /// The files that lookup lists are read from.
    pub fn list_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.lists.values().filter_map(|it| if let ListConfig::File(path) = it { Some(path) } else { None })
    }

    /// The lookup lists' values.
    pub fn read_lists(&self) -> Result<Lists, String> {
        let read = |(name, list): (&String, &ListConfig)| {
            let values = match list {
                ListConfig::Values(values) => values.clone(),
                ListConfig::File(path) => read_list(path).map_err(|error| format!("list `{name}`: {}: {error}", path.display()))?,
            };
            Ok((name.clone(), values))
        };
        self.lists.iter().map(read).collect()
    }
}

/// The values of a list's file, one a line.
pub fn read_list(path: &Path) -> std::io::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// The example file, which `config example` prints and a test reads.
pub fn example() -> &'static str {
    include_str!("example.yaml")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        parse(text, &|name| (name == "QUEUE").then(|| "https://sqs.eu-west-1.amazonaws.com/1/q".to_owned()))
    }

    #[test]
    fn the_example_is_right_and_json_is_accepted() {
        let example = example().replace("${QUEUE_URL}", "${QUEUE}");
        let config = read(&example).unwrap();
        assert_eq!(config.sources.len(), 7);
        assert_eq!(read(&serde_json::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let source = "data_dir: d\nsources:\n  - {type: directory, name: a, path: p}\n";
        for (text, expected) in [
            (format!("{source}sorces: []\n"), "sorces"),
            (format!("{source}sorces: []\n"), "line 4"),
            (source.replace("path: p", "path: p, depth: 1"), "depth"),
            (source.replace("directory", "folder"), "folder"),
            (source.replace("name: a", "name: \"a b\""), "letters"),
            (format!("{source}  - {{type: directory, name: a, path: q}}\n"), "two sources"),
            (format!("{source}admin: {{listen: \"0.0.0.0:1\"}}\n"), "allow_public"),
            (format!("{source}admin: {{listen: here}}\n"), "address and port"),
            (source.replace("path: p", "path: p, drop: ['eventName == 1']"), "write `=`"),
            (source.replace("path: p", "path: \"${NOPE}\""), "NOPE"),
            (
                format!(
                    "{source}  - {{type: k8s_watch, name: b, cluster: c, lease: {{namespace: ns}}}}\n  - {{type: k8s_watch, name: c, cluster: c, lease: {{namespace: ns}}}}\n"
                ),
                "another source has this lease",
            ),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{text}\n-> {error}\nwithout {expected}");
        }
    }
}
