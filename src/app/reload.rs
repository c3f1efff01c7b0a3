//! Rules, suppressions and lists from their files, now and whenever these change: within a second, whole or not at all.

use crate::clock::Clock;
use crate::config::Config;
use crate::event::time::format_ms;
use crate::filter::{Filter, Lists};
use crate::metrics::{self, Metrics, RULES};
use crate::pipeline::Drops;
use crate::rules::{Current, Problem, RuleSet, Source, Suppression, Trouble, load, load_suppressions};
use crate::sources::Health;
use crate::store::Store;
use std::collections::HashMap;
use std::fs;
use std::hash::Hasher;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long before its end a suppression is announced, ms: a week.
const EXPIRES_SOON_MS: i64 = 7 * 86_400_000;
/// How the end of a suppression is said that is over.
const EXPIRED: &str = "expired";
/// Files and folders that are looked at, at most; what is beyond is read at the next start.
const FILES_MAX: usize = 100_000;

/// What was read from files.
pub(super) struct Loaded {
    rules: RuleSet,
    drops: Drops,
    problems: Vec<Problem>,
}

/// Reads everything that the configuration names.
pub(super) fn read(config: &Config) -> Result<Loaded, String> {
    let lists = config.read_lists()?;
    let drops = drops(config, &lists)?;
    let Some(settings) = &config.rules else { return Ok(Loaded { rules: RuleSet::default(), drops, problems: Vec::new() }) };
    let builtin = settings.builtin.then_some(Source::Builtin);
    let sources: Vec<_> = builtin.into_iter().chain(settings.directories.iter().cloned().map(Source::Path)).collect();
    let loaded = load(&sources, &lists);
    let folders = config.suppressions.as_ref().map_or(&[][..], |it| &it.directories);
    let (suppressions, bad) = load_suppressions(folders, &lists);
    let problems = loaded.problems.into_iter().chain(bad).collect();
    Ok(Loaded { rules: RuleSet::new(loaded.rules).with_suppressions(suppressions), drops, problems })
}

fn drops(config: &Config, lists: &Lists) -> Result<Drops, String> {
    let compiled = |source: &crate::config::SourceConfig| {
        let filters: Result<Vec<_>, _> = source.drop().iter().map(|it| Filter::new(it, lists)).collect();
        Ok((source.name().to_owned(), filters.map_err(|error| format!("source `{}`, drop: {error}", source.name()))?))
    };
    config.sources.iter().map(compiled).collect()
}

/// Keeps what is in use as the files have it.
pub(super) struct Reload {
    config: Arc<Config>,
    rules: Arc<Current<RuleSet>>,
    drops: Arc<Current<Drops>>,
    /// What did not load when it was taken into use: no news.
    known: Vec<Problem>,
    stamp: u64,
    /// Ends of suppressions that were announced: by id, which end and how it was said.
    announced: HashMap<String, (i64, &'static str)>,
}

/// Whom a reload tells.
pub(super) struct Told {
    pub(super) store: Store,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Clock,
}

impl Reload {
    /// Takes into use what the files have. One rule that does not load is said, and the others run.
    pub(super) fn begin(config: &Config) -> Result<Self, String> {
        let stamp = stamp(config);
        let Loaded { rules, drops, problems } = read(config)?;
        for problem in &problems {
            tracing::error!(file = %problem.file.display(), "not loaded: {}", problem.what);
        }
        tracing::info!(rules = rules.rules.len(), not_loaded = problems.len(), "rules");
        Ok(Self {
            config: Arc::new(config.clone()),
            rules: Arc::new(Current::new(rules)),
            drops: Arc::new(Current::new(drops)),
            known: problems,
            stamp,
            announced: HashMap::new(),
        })
    }

    pub(super) fn rules(&self) -> Arc<Current<RuleSet>> {
        Arc::clone(&self.rules)
    }

    pub(super) fn drops(&self) -> Arc<Current<Drops>> {
        Arc::clone(&self.drops)
    }

    /// Until it is told to stop.
    pub(super) async fn run(mut self, told: Told, mut stop: watch::Receiver<bool>) {
        self.show(&told);
        if let Some(problem) = self.known.first() {
            let what = format!("{}: {}", problem.file.display(), problem.what);
            told.health.note(RULES, Some(format!("{} did not load, the others run: {what}", self.known.len())));
            trouble(&told, &what).await;
        }
        loop {
            self.announce_ends(&told).await;
            tokio::select! {
                _ = stop.wait_for(|it| *it) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let config = Arc::clone(&self.config);
            let before = self.stamp;
            let look = move || {
                // Taken before the files are read: what changes meanwhile is seen the next time.
                let now = stamp(&config);
                (now != before).then(|| (now, read(&config)))
            };
            let Ok(Some((now, loaded))) = tokio::task::spawn_blocking(look).await else { continue };
            self.stamp = now;
            match loaded.and_then(|it| self.without_news(it)) {
                Ok(loaded) => self.take(loaded, &told),
                Err(why) => self.refuse(&why, &told).await,
            }
        }
    }

    /// What is broken now and was not before keeps all of it out: half a set would be no set that anyone meant.
    fn without_news(&self, loaded: Loaded) -> Result<Loaded, String> {
        match loaded.problems.iter().find(|it| !self.known.contains(it)) {
            Some(problem) => Err(format!("{}: {}", problem.file.display(), problem.what)),
            None => Ok(loaded),
        }
    }

    fn take(&mut self, loaded: Loaded, told: &Told) {
        tracing::info!(rules = loaded.rules.rules.len(), suppressions = loaded.rules.suppressions.len(), "rules are loaded anew");
        self.known = loaded.problems;
        self.rules.set(loaded.rules);
        self.drops.set(loaded.drops);
        told.metrics.add(&metrics::RELOADS, RULES, "taken", 1.0);
        let left = self.known.len();
        told.health.note(RULES, (left > 0).then(|| format!("{left} did not load, the others run")));
        self.show(told);
    }

    async fn refuse(&self, why: &str, told: &Told) {
        tracing::error!("rules are not loaded anew, those from before run: {why}");
        told.metrics.add(&metrics::RELOADS, RULES, "refused", 1.0);
        told.health.note(RULES, Some(format!("not loaded anew, those from before run: {why}")));
        trouble(told, why).await;
    }

    fn show(&self, told: &Told) {
        let set = self.rules.get();
        told.metrics.set(&metrics::RULES_LOADED, RULES, "", set.rules.len() as f64);
        told.metrics.set(&metrics::RULES_NOT_LOADED, RULES, "", self.known.len() as f64);
    }

    /// Says of each suppression that it is about to end, and that it has.
    async fn announce_ends(&mut self, told: &Told) {
        let now = told.clock.now_ms();
        let set = self.rules.get();
        for it in &set.suppressions {
            let Some((at, stage)) = end_of(it, now) else { continue };
            if self.announced.get(&it.id) == Some(&(at, stage)) {
                continue;
            }
            self.announced.insert(it.id.clone(), (at, stage));
            let at = format_ms(at);
            let said = if stage == EXPIRED { format!("expired at {at} and hides nothing") } else { format!("expires at {at}") };
            tracing::warn!(id = it.id, owner = it.owner, "the suppression {said}");
            raise(told, Trouble::SuppressionExpires, vec![it.id.clone(), stage.to_owned()], format!("`{}` of {} {said}", it.id, it.owner))
                .await;
        }
    }
}

/// The end of a suppression, and how it is to be said now.
fn end_of(it: &Suppression, now: i64) -> Option<(i64, &'static str)> {
    let at = it.expires_ms?;
    match at - now {
        ..=0 => Some((at, EXPIRED)),
        1..=EXPIRES_SOON_MS => Some((at, "soon")),
        _ => None,
    }
}

/// The alert of a file that does not load. Its title is one line, and long paths would leave no room for the reason.
async fn trouble(told: &Told, why: &str) {
    let file = why.split(": ").next().unwrap_or("");
    let name = Path::new(file).file_name().map_or(file.into(), |it| it.to_string_lossy());
    let reason = why.strip_prefix(file).unwrap_or(why).trim_start_matches(": ");
    let first: Vec<_> = reason.lines().map(str::trim).filter(|it| !it.is_empty()).take(2).collect();
    raise(told, Trouble::RulesNotLoaded, vec![file.to_owned()], format!("{name}: {}", first.join(" "))).await;
}

/// Writes the alert of a trouble; when the store takes nothing, the log has it.
pub(super) async fn raise(told: &Told, trouble: Trouble, aggregates: Vec<String>, what: String) {
    if let Err(error) = told.store.raise(trouble, aggregates, what, told.clock.now_ms()).await {
        tracing::warn!(%error, "the alert `{}` is not stored", trouble.id());
    }
}

/// What the files look like: another number when one of them is another, in name, length, time or content's place.
fn stamp(config: &Config) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3Default::new();
    let mut left = FILES_MAX;
    let rules = config.rules.iter().flat_map(|it| &it.directories);
    let suppressions = config.suppressions.iter().flat_map(|it| &it.directories);
    for path in rules.chain(suppressions).chain(config.list_files()) {
        add(path, &mut left, &mut hash);
    }
    hash.finish()
}

fn add(path: &Path, left: &mut usize, hash: &mut xxhash_rust::xxh3::Xxh3Default) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    hash.update(path.as_os_str().as_encoded_bytes());
    let Ok(meta) = fs::metadata(path) else { return hash.update(b"?") };
    if meta.is_dir() {
        let mut paths: Vec<PathBuf> = fs::read_dir(path).into_iter().flatten().flatten().map(|it| it.path()).collect();
        paths.sort();
        return paths.iter().for_each(|it| add(it, left, hash));
    }
    for number in [meta.len() as i64, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec(), meta.ino() as i64] {
        hash.update(&number.to_le_bytes());
    }
}
