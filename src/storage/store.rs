//! Opens the place where a lake lies, by URL.
//!
//! Read [`Store`]. Which files there belong to the lake is the log's business.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::durable::DurableLocal;
use crate::error::{Error, ErrorKind, Result};

/// How long a remote store is waited for.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// How often a request that failed for a passing reason is tried again.
    pub max_retries: usize,
    /// The wait before the first retry; it doubles, with jitter, up to eight times this.
    pub first_backoff: Duration,
    /// The time after which no retry is begun.
    pub retry_timeout: Duration,
    /// The time one request may take.
    pub request_timeout: Duration,
    /// The time making a connection may take.
    pub connect_timeout: Duration,
    /// Settings under the names that the environment would have, over which they go.
    pub settings: Vec<(String, String)>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            max_retries: 6,
            first_backoff: Duration::from_millis(100),
            retry_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            settings: Vec::new(),
        }
    }
}

/// The place of a lake. Cheap to clone.
///
/// On a local disk every write is synced, with its directory, before it returns.
#[derive(Clone)]
pub struct Store {
    url: Url,
    root: Arc<dyn ObjectStore>,
    objects: Arc<dyn ObjectStore>,
}

impl Store {
    /// Opens a local path or a URL: `file:`, `memory:`, `s3:`, `gs:` or `az:`.
    ///
    /// Nothing is created or asked of the store. Credentials and endpoints come from the
    /// environment, under the names object_store documents (`AWS_ACCESS_KEY_ID`,
    /// `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …), in either
    /// case. `memory://name` is the same store throughout the process; `memory://` is new.
    pub fn open(location: &str) -> Result<Self> {
        Self::open_with(location, &StoreOptions::default())
    }

    /// Opens a location with other time-outs.
    pub fn open_with(location: &str, options: &StoreOptions) -> Result<Self> {
        if location.trim().is_empty() {
            return Err(Error::invalid_input(
                "the lake's location is empty; give a path or a URL",
            ));
        }
        let Some(url) = parse_url(location)? else {
            return Self::open_local(FsPath::new(location));
        };
        match url.scheme() {
            "file" => {
                let path = url.to_file_path().map_err(|()| {
                    Error::invalid_input(format!("not a local path; url=`{location}`"))
                })?;
                Self::open_local(&path)
            }
            "memory" => Ok(Self::rooted(memory_store(&url), url, Path::default())),
            "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" => {
                let path = Path::from_url_path(url.path()).map_err(|error| {
                    Error::invalid_input(format!("not a valid path in a store; url=`{location}`"))
                        .with_source(error)
                })?;
                let variables = std::env::vars_os().filter_map(|(key, value)| {
                    Some((key.into_string().ok()?, value.into_string().ok()?))
                });
                let variables = variables.chain(options.settings.iter().cloned());
                let root = remote_store(&url, options, variables)?;
                Ok(Self::rooted(root, url, path))
            }
            scheme => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot open a lake at this kind of URL; use a local path, file:, memory:, \
                     s3:, gs: or az:; scheme=`{scheme}`"
                ),
            )),
        }
    }

    /// A lake in any object store; `url` names it in messages and must be unique to it.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, url: Url) -> Self {
        Self::rooted(objects, url, Path::default())
    }

    fn open_local(path: &FsPath) -> Result<Self> {
        let path = absolute(path)?;
        let url = Url::from_directory_path(&path)
            .map_err(|()| Error::invalid_input(format!("not a path; path=`{}`", path.display())))?;
        let prefix = Path::from_url_path(url.path().trim_end_matches('/')).map_err(|error| {
            Error::invalid_input(format!("not a path for a lake; path=`{}`", path.display()))
                .with_source(error)
        })?;
        Ok(Self::rooted(Arc::new(DurableLocal::new()), url, prefix))
    }

    fn rooted(root: Arc<dyn ObjectStore>, url: Url, prefix: Path) -> Self {
        let objects: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
            Arc::clone(&root)
        } else {
            Arc::new(PrefixStore::new(Arc::clone(&root), prefix))
        };
        Self { url, root, objects }
    }

    /// The URL of the lake. A local path is absolute in it.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The objects of the lake; paths are those of [`super::LakeFile`].
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// The directory of a lake on a local disk.
    pub(super) fn local_directory(&self) -> Option<PathBuf> {
        (self.url.scheme() == "file")
            .then(|| self.url.to_file_path().ok())
            .flatten()
    }

    /// The store that holds the lake, from its own root.
    pub(super) fn root(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.root)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// The URL a location is, or `None` for a path. One letter before `:` is a Windows drive.
fn parse_url(location: &str) -> Result<Option<Url>> {
    let Some((scheme, _)) = location.split_once(':') else {
        return Ok(None);
    };
    let is_scheme = scheme.len() > 1
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme || (!location[scheme.len()..].starts_with("://") && scheme != "file") {
        return Ok(None);
    }
    Url::parse(location).map(Some).map_err(|error| {
        Error::invalid_input(format!("malformed URL of a lake; url=`{location}`"))
            .with_source(error)
    })
}

/// The path from the root of the file system, with the links of what exists resolved.
fn absolute(path: &FsPath) -> Result<PathBuf> {
    let path = std::path::absolute(path).map_err(|error| {
        Error::invalid_input(format!("not a path; path=`{}`", path.display())).with_source(error)
    })?;
    Ok(std::fs::canonicalize(&path).unwrap_or(path))
}

/// The in-memory store of that name.
fn memory_store(url: &Url) -> Arc<dyn ObjectStore> {
    static NAMED: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> =
        LazyLock::new(|| Mutex::new(HashMap::new()));
    let name = format!("{}{}", url.host_str().unwrap_or(""), url.path());
    let name = name.trim_matches('/');
    if name.is_empty() {
        return Arc::new(InMemory::new());
    }
    let mut named = NAMED
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let store: Arc<InMemory> = Arc::clone(named.entry(name.to_owned()).or_default());
    store
}

fn remote_store(
    url: &Url,
    options: &StoreOptions,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: options.first_backoff,
            max_backoff: options.first_backoff * 8,
            base: 2.0,
        },
        max_retries: options.max_retries,
        retry_timeout: options.retry_timeout,
    };
    let client = ClientOptions::new()
        .with_timeout(options.request_timeout)
        .with_connect_timeout(options.connect_timeout);
    let name_url = |error: object_store::Error| {
        Error::invalid_input(format!("cannot open the store of the lake; url=`{url}`"))
            .with_source(error)
    };
    // The builders read what they know; what they do not know is another program's.
    let variables = variables.map(|(key, value)| (key.to_ascii_lowercase(), value));
    match url.scheme() {
        "gs" => {
            let mut builder = GoogleCloudStorageBuilder::new()
                .with_client_options(client)
                .with_retry(retry)
                .with_url(url.as_str());
            for (key, value) in variables.filter(|(key, _)| key.starts_with("google_")) {
                if key == "google_application_credentials" {
                    builder = builder.with_application_credentials(value);
                } else if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            Ok(Arc::new(builder.build().map_err(name_url)?))
        }
        "s3" | "s3a" => {
            let mut builder = AmazonS3Builder::new()
                .with_client_options(client)
                .with_retry(retry)
                .with_url(url.as_str());
            for (key, value) in variables.filter(|(key, _)| key.starts_with("aws_")) {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            Ok(Arc::new(builder.build().map_err(name_url)?))
        }
        _ => {
            let mut builder = MicrosoftAzureBuilder::new()
                .with_client_options(client)
                .with_retry(retry)
                .with_url(url.as_str());
            for (key, value) in variables.filter(|(key, _)| key.starts_with("azure_")) {
                if let Ok(key) = key.parse() {
                    builder = builder.with_config(key, value);
                }
            }
            Ok(Arc::new(builder.build().map_err(name_url)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[test]
    fn a_location_is_a_path_or_a_known_url() {
        for path in ["lake", "./a b/ü", "/tmp/lake", "C:\\lake", "a:b"] {
            assert!(parse_url(path).unwrap().is_none(), "{path}");
        }
        let error = Store::open("ftp://host/lake").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("ftp"));
        assert_eq!(
            Store::open(" ").unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        assert!(
            Store::open("file:///tmp/x")
                .unwrap()
                .url()
                .as_str()
                .ends_with("/tmp/x/")
        );
    }

    #[tokio::test]
    async fn a_named_memory_store_is_the_same_for_all() {
        let path = Path::from("a");
        let first = Store::open("memory://store-test/one").unwrap();
        first.objects().put(&path, "x".into()).await.unwrap();
        let again = Store::open("memory://store-test/one").unwrap();
        assert!(again.objects().head(&path).await.is_ok());
        let other = Store::open("memory://store-test/two").unwrap();
        assert!(other.objects().head(&path).await.is_err());
    }

    #[test]
    fn remote_urls_open_without_asking_the_store() {
        for url in ["s3://bucket/lake", "gs://bucket/lake"] {
            let store = Store::open(url).unwrap();
            assert_eq!(store.url().as_str(), url);
        }
    }
}
