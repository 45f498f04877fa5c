//! Keys and values of attributes, services and operations of the lake, for the Tab key.
//!
//! Read [`KnownNames`]. They come from the lake's catalogues; nobody at a prompt waits long for
//! them, and what comes too late is there the next time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::execution::texts;
use super::parameter::{self, Parameter};
use super::wanted_names::Wanted;
use crate::Result;
use crate::engine::Session;

/// How long a person waits for names.
const PATIENCE: Duration = Duration::from_millis(400);

/// How long names are taken to be those of the lake.
const FRESH: Duration = Duration::from_secs(60);

/// Answers that are kept.
const KEPT: usize = 64;

/// The most frequent names that are offered of many.
const OFFERED: usize = 200;

/// The names of a lake, as they are asked for.
pub(crate) struct KnownNames {
    session: Arc<Session>,
    runtime: Handle,
    answers: Arc<Mutex<Answers>>,
    /// The question that is being answered; another one takes its place.
    running: Mutex<Option<(Question, JoinHandle<()>)>>,
}

/// What is asked, and the beginning of the names.
type Question = (Wanted, String);

/// When each answer came, and the names.
type Answers = HashMap<Question, (Instant, Vec<String>)>;

impl KnownNames {
    /// The names that `session` knows of, asked for on `runtime`.
    pub(crate) fn new(session: Arc<Session>, runtime: Handle) -> Self {
        Self {
            session,
            runtime,
            answers: Arc::default(),
            running: Mutex::default(),
        }
    }

    /// The names of a kind that begin with `prefix`, sorted; none where they are not known in
    /// time. Must not be called on the runtime's own threads.
    pub(crate) fn names(&self, wanted: &Wanted, prefix: &str) -> Vec<String> {
        let asked = (wanted.clone(), prefix.to_string());
        if let Some(names) = self.answer(&asked) {
            return names;
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut task = match running.take() {
            // Who asks again waits on.
            Some((question, task)) if question == asked && !task.is_finished() => task,
            earlier => {
                if let Some((_, task)) = earlier {
                    task.abort();
                }
                self.spawn(asked.clone())
            }
        };
        let in_time = self
            .runtime
            .block_on(async { tokio::time::timeout(PATIENCE, &mut task).await.is_ok() });
        if !in_time {
            *running = Some((asked.clone(), task));
        }
        self.answer(&asked).unwrap_or_default()
    }

    /// Begins to answer a question.
    fn spawn(&self, question: Question) -> JoinHandle<()> {
        let (session, answers) = (Arc::clone(&self.session), Arc::clone(&self.answers));
        self.runtime.spawn(async move {
            let names = ask(&session, &question.0, &question.1).await;
            let names = names.unwrap_or_else(|error| {
                tracing::debug!("no names to complete: {}", error.report());
                Vec::new()
            });
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            if answers.len() >= KEPT {
                answers.clear();
            }
            answers.insert(question, (Instant::now(), names));
        })
    }

    fn answer(&self, asked: &Question) -> Option<Vec<String>> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, names) = answers.get(asked)?;
        (when.elapsed() < FRESH).then(|| names.clone())
    }
}

impl Drop for KnownNames {
    fn drop(&mut self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, task)) = running.as_ref() {
            task.abort();
        }
    }
}

/// The most frequent names first, cut, then sorted.
async fn ask(session: &Session, wanted: &Wanted, prefix: &str) -> Result<Vec<String>> {
    let mut parameters = vec![parameter::text("prefix", prefix)];
    let (name, relation, condition) = match wanted {
        Wanted::Key(scope) => ("key", "attribute_keys", scoped(*scope, &mut parameters)),
        Wanted::Value(scope, key) => {
            parameters.push(parameter::text("key", key));
            let scope = scoped(*scope, &mut parameters);
            (
                "value",
                "attribute_values",
                format!("key = $key AND {scope}"),
            )
        }
        Wanted::Service => ("service_name", "services", "true".to_string()),
        Wanted::Operation => ("name", "operations", "true".to_string()),
    };
    let sql = format!(
        "SELECT name FROM (SELECT {name} AS name, sum(span_count) AS spans FROM {relation} \
         WHERE {condition} AND starts_with({name}, $prefix) GROUP BY 1 \
         ORDER BY 2 DESC, 1 LIMIT {OFFERED}) ORDER BY 1"
    );
    let rows = texts(session, &sql, &parameters).await?;
    Ok(rows.into_iter().flatten().collect())
}

fn scoped(scope: Option<&'static str>, parameters: &mut Vec<Parameter>) -> String {
    let Some(scope) = scope else {
        return "true".to_string();
    };
    parameters.push(parameter::text("scope", scope));
    "scope = $scope".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{IngestProgress, Lake, Source};
    use crate::{Config, Result};

    async fn session() -> Result<Session> {
        let lake = Lake::create("memory:///", Config::default()).await?;
        let text = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/data/otlp/collector.jsonl"
        ));
        let source = Source::bytes("collector.jsonl", text);
        lake.ingest(vec![source], IngestProgress::shared()).await?;
        lake.session().await
    }

    #[test]
    fn names_are_those_of_the_lake_that_begin_as_typed() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let session = runtime.block_on(session()).unwrap();
        let names = KnownNames::new(Arc::new(session), runtime.handle().clone());
        // Whoever is late answers the next time.
        let ask = |wanted: Wanted, prefix: &str| {
            let mut answers = (0..100).map(|_| names.names(&wanted, prefix));
            answers.find(|found| !found.is_empty())
        };
        let span = Some("span");
        for (wanted, prefix, expected) in [
            (Wanted::Service, "c", vec!["catalog"]),
            (Wanted::Operation, "POST", vec!["POST /loans"]),
            (Wanted::Key(span), "http.ro", vec!["http.route"]),
            (Wanted::Key(None), "service.n", vec!["service.name"]),
            (
                Wanted::Value(span, "http.route".into()),
                "/",
                vec!["/books/{isbn}", "/loans"],
            ),
        ] {
            let found = ask(wanted.clone(), prefix).unwrap_or_default();
            assert_eq!(found, expected, "{wanted:?}");
        }
        assert!(names.names(&Wanted::Service, "nobody").is_empty());
    }
}
