//! The state file: one redb table of resources by name, one of facts about the whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prost::Message;
use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend,
    StorageError, TableDefinition,
};
use weft_proto::v1;

use super::folder;
use crate::error::{Error, Result};
use crate::ipam::{Released, ReleasedChanges, ReleasedKey};
use crate::model::parse::{self, Resources};
use crate::model::{Name, ObjectRef};

pub(super) const FILE_NAME: &str = "weft.redb";
/// Encoded `weft.v1.Resource` by "Port/web".
const RESOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("resources");
/// Numbers by name.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
/// When an address was given back, in seconds since 1970, and by whom, by "front/198.18.1.9".
const RELEASED: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("released");
/// Texts by name.
const TEXTS: TableDefinition<'_, &str, &str> = TableDefinition::new("texts");
/// Raised whenever an older daemon could not read what this one writes.
const FORMAT: u64 = 1;
/// The state is small and read once: a page cache of 1 MiB is plenty.
const CACHE_BYTES: usize = 1 << 20;
/// A killed daemon holds its lock until the kernel has taken it apart.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The open state file.
#[derive(Debug)]
pub(super) struct Records {
    /// `None`: it was closed after an error, and could not be opened again yet.
    database: Option<Database>,
    path: PathBuf,
    /// A write failed, on a full disk for instance: nobody knows which part of it is in the file, and the
    /// database refuses all that follows until it is opened again.
    failed: bool,
}

/// What the file held when it was opened.
#[derive(Debug)]
pub(super) struct Loaded {
    pub resources: Resources,
    pub released: Vec<(ReleasedKey, Released)>,
    pub revision: u64,
    pub instance: String,
}

/// What a transaction writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing<'a> {
    /// All there are.
    pub resources: &'a Resources,
    /// Those of them that differ from what is on disk, or are gone.
    pub named: &'a BTreeSet<ObjectRef>,
    /// What changed among the addresses that were given back.
    pub released: &'a ReleasedChanges,
    /// The revision afterwards.
    pub revision: u64,
}

/// Makes the folder of the state if it is not there.
pub fn make_folder(dir: &Path) -> Result<()> {
    folder::make(dir).map_err(file_error(dir, "made"))
}

impl Records {
    /// Opens the file in `dir` and reads everything; begins an empty one when there is none.
    pub fn open(dir: &Path) -> Result<(Records, Loaded)> {
        make_folder(dir)?;
        let path = dir.join(FILE_NAME);
        // The database panics over some files that are damaged.
        let opened = catch_unwind(AssertUnwindSafe(|| open_and_load(dir, &path)));
        let (database, loaded) = opened
            .unwrap_or_else(|panic| Err(damaged(&path, said(&*panic))))
            .map_err(|error| judged(&path, error))?;
        Ok((Records { database: Some(database), path, failed: false }, loaded))
    }

    /// Begins a file in `dir` that holds this, where there is none. It is there whole, or not at all.
    pub fn rebuild(dir: &Path, loaded: &Loaded) -> Result<Records> {
        let (path, unfinished) = (dir.join(FILE_NAME), dir.join(format!("{FILE_NAME}.new")));
        folder::remove_file(&unfinished).map_err(file_error(&unfinished, "removed"))?;
        let database = open_database(&unfinished)?;
        begin(&database, Some(&loaded.instance)).map_err(state_error(&unfinished, "written"))?;
        let released: ReleasedChanges =
            loaded.released.iter().map(|(key, released)| (key.clone(), Some(released.clone()))).collect();
        let writing = Writing {
            resources: &loaded.resources,
            named: &BTreeSet::new(),
            released: &released,
            revision: loaded.revision,
        };
        write(&database, &writing, true).map_err(state_error(&unfinished, "written"))?;
        std::fs::rename(&unfinished, &path).map_err(file_error(&path, "made"))?;
        sync(dir)?;
        Ok(Records { database: Some(database), path, failed: false })
    }

    /// Moves the file in `dir` to another name beside it, which is returned; `None`: there is no file. Fails when
    /// another daemon has it open.
    pub fn set_aside(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
        let path = dir.join(FILE_NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path, "opened")(error)),
        };
        // It is locked while it is moved, as the database does: nobody else takes it for theirs.
        lock(&file, &path)?;
        let aside = free_name(dir, name);
        std::fs::rename(&path, &aside).map_err(file_error(&path, "moved"))?;
        sync(dir)?;
        Ok(Some(aside))
    }

    /// The state file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the named objects as they are, or removes them where they are not, and what goes along: one
    /// transaction, on disk when this returns. After an error the next call writes all objects.
    pub fn write(&mut self, writing: &Writing<'_>) -> Result<()> {
        if self.failed {
            // Closed first: the file is locked by whoever has it open.
            self.database = None;
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        let written = write(&database, writing, self.failed);
        self.database = Some(database);
        self.failed = written.is_err();
        written.map_err(state_error(&self.path, "written"))
    }
}

fn open_and_load(dir: &Path, path: &Path) -> Result<(Database, Loaded)> {
    let mut database = open_when_free(path)?;
    // Every page has a checksum, which is only looked at when somebody asks.
    match database.check_integrity() {
        Ok(_) => {}
        Err(DatabaseError::Storage(StorageError::Corrupted(what))) => return Err(damaged(path, what)),
        Err(error) => return Err(state_error(path, "checked")(error.into())),
    }
    // The file's name must survive a power failure as its content does.
    sync(dir)?;
    begin(&database, None).map_err(state_error(path, "written"))?;
    let loaded = load(&database, path)?;
    Ok((database, loaded))
}

/// Opens the file, waiting a little for a daemon that is just ending to let go of it.
fn open_when_free(path: &Path) -> Result<Database> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut told = false;
    loop {
        match open_database(path) {
            Err(Error::StateLocked { .. }) if Instant::now() < deadline => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(path = %path.display(), "another weftd has the state open; waiting for it to end");
                }
                std::thread::sleep(LOCK_RETRY);
            }
            other => return other,
        }
    }
}

/// Opens the file, or makes it.
fn open_database(path: &Path) -> Result<Database> {
    let there = path.exists();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(file_error(path, "opened"))?;
    let file = FileBackend::new(file).map_err(open_error(path))?;
    // The database would take an empty file for one to begin with.
    if there && file.len().is_ok_and(|octets| octets == 0) {
        return Err(damaged(path, "it is empty".to_owned()));
    }
    Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(file).map_err(open_error(path))
}

fn open_error(path: &Path) -> impl FnOnce(DatabaseError) -> Error + use<> {
    let path = path.to_owned();
    move |error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::StateLocked { path },
        other => state_error(&path, "opened")(other.into()),
    }
}

fn damaged(path: &Path, what: String) -> Error {
    Error::StateDamaged { path: path.to_owned(), what }
}

/// Tells damage of the file from what is wrong around it, such as a disk that is full.
fn judged(path: &Path, error: Error) -> Error {
    let Error::State { source, .. } = &error else { return error };
    match &**source {
        redb::Error::Corrupted(what) => damaged(path, what.clone()),
        redb::Error::Io(io)
            if matches!(io.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            damaged(path, format!("it cannot be read to its end: {io}"))
        }
        redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted
        | redb::Error::TableTypeMismatch { .. }
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableDoesNotExist(_) => damaged(path, source.to_string()),
        _ => error,
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("it makes no sense to the database ({})", text.unwrap_or("no reason given"))
}

/// Locks the file, waiting a little for a daemon that is just ending.
fn lock(file: &File, path: &Path) -> Result<()> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(Error::StateLocked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(file_error(path, "locked")(error)),
        }
    }
}

/// A name in `dir` that nothing has yet.
fn free_name(dir: &Path, name: &str) -> PathBuf {
    let numbered = (1_u32..).map(|number| dir.join(format!("{name}-{number}")));
    let mut names = std::iter::once(dir.join(name)).chain(numbered);
    names.find(|path| !path.exists()).unwrap_or_else(|| dir.join(name))
}

/// Makes names in a folder outlive a power failure.
fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(file_error(dir, "synchronized"))
}

/// Writes the named objects, or `all` there are, so that the file has no other ones.
fn write(database: &Database, writing: &Writing<'_>, all: bool) -> std::result::Result<(), redb::Error> {
    let Writing { resources, named, released, revision } = *writing;
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut table = transaction.open_table(RESOURCES)?;
        if all {
            table.retain(|_, _| false)?;
        }
        for object in if all { resources.keys().collect::<Vec<_>>() } else { named.iter().collect() } {
            let key = object.to_string();
            match resources.get(object) {
                Some(resource) => table.insert(&*key, &*resource.encode_to_vec())?,
                None => table.remove(&*key)?,
            };
        }
        let mut table = transaction.open_table(RELEASED)?;
        for ((network, address), released) in released {
            let key = format!("{network}/{address}");
            match released {
                Some(Released { owner, at }) => table.insert(&*key, (seconds(*at), &**owner))?,
                None => table.remove(&*key)?,
            };
        }
        transaction.open_table(NUMBERS)?.insert("revision", revision)?;
    }
    Ok(transaction.commit()?)
}

/// Makes what a new file lacks; its instance, unless it is `known`, is a new one.
fn begin(database: &Database, known: Option<&str>) -> std::result::Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(RESOURCES)?;
        transaction.open_table(RELEASED)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        if numbers.get("format")?.is_none() {
            numbers.insert("format", FORMAT)?;
            numbers.insert("revision", 0)?;
            let instance = known.map_or_else(new_instance, |known| Ok(known.to_owned()))?;
            transaction.open_table(TEXTS)?.insert("instance", &*instance)?;
        }
    }
    Ok(transaction.commit()?)
}

fn load(database: &Database, path: &Path) -> Result<Loaded> {
    let raw = read(database).map_err(state_error(path, "read"))?;
    if raw.format != FORMAT {
        return Err(Error::StateFormat { path: path.to_owned(), found: raw.format, expected: FORMAT });
    }
    let mut resources = Resources::new();
    for (key, bytes) in raw.resources {
        let wrong =
            |reason: String| Error::StateObject { path: path.to_owned(), object: key.clone(), reason };
        let resource = v1::Resource::decode(&*bytes).map_err(|error| wrong(error.to_string()))?;
        let object = parse::identity(0, &resource)
            .map_err(|found| wrong(found.into_iter().map(|violation| violation.description).collect()))?;
        if object.to_string() != key {
            return Err(wrong(format!("the record is that of {object}")));
        }
        resources.insert(object, Arc::new(resource));
    }
    let released = raw.released.iter().filter_map(|(key, at, owner)| released(key, *at, owner)).collect();
    Ok(Loaded { resources, released, revision: raw.revision, instance: raw.instance })
}

/// An address that was given back. One that cannot be read is as good as one that was forgotten.
pub(super) fn released(key: &str, at: u64, owner: &str) -> Option<(ReleasedKey, Released)> {
    let (network, address) = key.split_once('/')?;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at))?;
    Some(((Name::new(network).ok()?, address.parse().ok()?), Released { owner: owner.to_owned(), at }))
}

pub(super) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn read(database: &Database) -> std::result::Result<Raw, redb::Error> {
    let transaction = database.begin_read()?;
    let numbers = transaction.open_table(NUMBERS)?;
    let number = |name| Ok::<u64, redb::Error>(numbers.get(name)?.map_or(0, |value| value.value()));
    let instance = transaction.open_table(TEXTS)?.get("instance")?;
    let mut resources = BTreeMap::new();
    for entry in transaction.open_table(RESOURCES)?.iter()? {
        let (key, value) = entry?;
        resources.insert(key.value().to_owned(), value.value().to_vec());
    }
    let mut released = Vec::new();
    for entry in transaction.open_table(RELEASED)?.iter()? {
        let (key, value) = entry?;
        let (at, owner) = value.value();
        released.push((key.value().to_owned(), at, owner.to_owned()));
    }
    Ok(Raw {
        format: number("format")?,
        revision: number("revision")?,
        instance: instance.map(|value| value.value().to_owned()).unwrap_or_default(),
        resources,
        released,
    })
}

fn state_error(path: &Path, operation: &'static str) -> impl FnOnce(redb::Error) -> Error + use<> {
    let path = path.to_owned();
    move |error| Error::State { path, operation, source: Box::new(error) }
}

fn file_error(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { path, operation, source }
}

/// The file's content as it is.
struct Raw {
    format: u64,
    revision: u64,
    instance: String,
    resources: BTreeMap<String, Vec<u8>>,
    released: Vec<(String, u64, String)>,
}

/// An identifier that no other object has or had (RFC 9562 version 4).
pub(super) fn random_id() -> Result<String> {
    let mut bytes = random::<16>().map_err(no_randomness)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex(&bytes);
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// The id of a state that is new.
pub(super) fn new_instance() -> io::Result<String> {
    Ok(hex(&random::<6>()?))
}

/// Where random bytes come from.
const RANDOM: &str = "/dev/urandom";

/// What it means that there are none.
pub(super) fn no_randomness(source: io::Error) -> Error {
    Error::File { path: RANDOM.into(), operation: "read", source }
}

/// Octets that nobody can guess.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
