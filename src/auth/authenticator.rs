//! The [`Authenticator`] that knows passwords.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex};

use super::{FileError, PasswordFile};
use crate::ports::auth::{
    AuthBusy, AuthRequest, AuthVerdict, Authenticator, Completion, Identity, RefusalReason,
};

/// What [`PasswordAuthenticator`] is to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The password file.
    pub file: PathBuf,
    /// How many requests may wait for the thread that hashes.
    pub waiting_max: usize,
}

/// Checks passwords on a thread of its own. Dropping it waits for the hash the thread is at; who
/// waits for another is told that there will be no answer.
#[derive(Debug)]
pub struct PasswordAuthenticator {
    path: PathBuf,
    file: Arc<ArcSwap<PasswordFile>>,
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
}

/// The requests that wait for the thread.
#[derive(Debug)]
struct Waiting {
    /// None once the authenticator is dropped.
    queue: Mutex<Option<Queue>>,
    jobs_max: usize,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The oldest first.
    jobs: VecDeque<Job>,
    /// Whether a request was given up since one was last taken.
    has_lost: bool,
}

/// A request and whom to tell.
struct Job {
    request: AuthRequest,
    user_name: Arc<str>,
    completion: Box<dyn Completion>,
}

impl PasswordAuthenticator {
    /// Reads the file and starts the thread.
    ///
    /// # Errors
    /// The file cannot be used, or the thread not be started.
    pub fn start(options: Options) -> Result<Self, FileError> {
        Self::start_with(options, PasswordFile::verify)
    }

    fn start_with(
        options: Options,
        mut verify: impl FnMut(&PasswordFile, &str, &[u8]) -> bool + Send + 'static,
    ) -> Result<Self, FileError> {
        let file = Arc::new(ArcSwap::from_pointee(PasswordFile::open(&options.file)?));
        let waiting = Arc::new(Waiting::new(options.waiting_max));
        let (known, jobs) = (Arc::clone(&file), Arc::clone(&waiting));
        let check = move || {
            jobs.check_all(|user_name, password| verify(&known.load(), user_name, password));
        };
        let thread = thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(check)
            .map_err(FileError::Spawn)?;
        Ok(Self { path: options.file, file, waiting, thread: Some(thread) })
    }

    /// Reads the file again; answers how many users it has.
    ///
    /// # Errors
    /// The file cannot be used. What was known stays in force.
    pub fn reload(&self) -> Result<usize, FileError> {
        let file = PasswordFile::open(&self.path)?;
        let count = file.len();
        self.file.store(Arc::new(file));
        Ok(count)
    }
}

impl Authenticator for PasswordAuthenticator {
    /// Who gives no user name is known by the certificate, or refused: anonymous clients are the
    /// business of the listener.
    fn submit(
        &self,
        request: AuthRequest,
        completion: Box<dyn Completion>,
    ) -> Result<(), AuthBusy> {
        let Some(user_name) = request.user_name.clone() else {
            completion.complete(match request.tls_common_name.clone() {
                Some(common_name) => granted(&request, common_name),
                None => AuthVerdict::Refused(RefusalReason::NotAuthorized),
            });
            return Ok(());
        };
        self.waiting.push(Job { request, user_name, completion })
    }
}

impl Drop for PasswordAuthenticator {
    fn drop(&mut self) {
        self.waiting.close();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Waiting {
    fn new(jobs_max: usize) -> Self {
        Self { queue: Mutex::new(Some(Queue::default())), jobs_max, has_changed: Condvar::new() }
    }

    fn push(&self, job: Job) -> Result<(), AuthBusy> {
        let mut queue = self.queue.lock();
        let queue = queue.as_mut().ok_or(AuthBusy)?;
        queue.let_go();
        if queue.jobs.len() >= self.jobs_max {
            return Err(AuthBusy);
        }
        queue.jobs.push_back(job);
        self.has_changed.notify_one();
        Ok(())
    }

    /// The next request that somebody waits for; `None` when there will be no more.
    fn pop(&self) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.as_mut()?.pop() {
                return Some(job);
            }
            self.has_changed.wait(&mut queue);
        }
    }

    /// Answers requests until there are no more.
    fn check_all(&self, mut is_right: impl FnMut(&str, &[u8]) -> bool) {
        while let Some(Job { request, user_name, completion }) = self.pop() {
            let password = request.password.as_deref().unwrap_or_default();
            completion.complete(if is_right(&user_name, password) {
                granted(&request, user_name)
            } else {
                AuthVerdict::Refused(RefusalReason::BadUserNameOrPassword)
            });
        }
    }

    /// Lets all go that wait, and the thread.
    fn close(&self) {
        let queue = self.queue.lock().take();
        self.has_changed.notify_one();
        for job in queue.unwrap_or_default().jobs {
            job.completion.complete(AuthVerdict::Refused(RefusalReason::Unavailable));
        }
    }
}

impl Queue {
    /// The oldest, as long as nobody gives up. When more come than can be checked, the oldest is
    /// about to be given up, and so would be each one after it during its hash: nobody came in. The
    /// newest has its whole time left.
    fn pop(&mut self) -> Option<Job> {
        self.let_go();
        if !std::mem::take(&mut self.has_lost) {
            return self.jobs.pop_front();
        }
        while let Some(job) = self.jobs.pop_back() {
            if job.completion.is_wanted() {
                return Some(job);
            }
        }
        None
    }

    /// Forgets those nobody waits for. All have the same time to wait: these are the oldest.
    fn let_go(&mut self) {
        while self.jobs.front().is_some_and(|job| !job.completion.is_wanted()) {
            self.jobs.pop_front();
            self.has_lost = true;
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}

fn granted(request: &AuthRequest, user_name: Arc<str>) -> AuthVerdict {
    AuthVerdict::Granted(Identity {
        client_id: Arc::clone(&request.client_id),
        user_name: Some(user_name),
        anonymous: false,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{Weak, mpsc},
    };

    use bytes::Bytes;

    use super::*;
    use crate::auth::{passwd::set_password, test_directory::TestDirectory};

    fn request(user_name: Option<&str>, password: &'static str) -> AuthRequest {
        AuthRequest {
            client_id: "c1".into(),
            user_name: user_name.map(Arc::from),
            password: Some(Bytes::from_static(password.as_bytes())),
            peer: "192.0.2.1:5".into(),
            tls_common_name: None,
        }
    }

    fn started(directory: &TestDirectory, waiting_max: usize) -> PasswordAuthenticator {
        let file = directory.0.join("users");
        set_password(&file, "alice", b"wonder").unwrap();
        PasswordAuthenticator::start(Options { file, waiting_max }).unwrap()
    }

    /// Where the tests take an answer; wanted as long as the weak reference has somebody behind it.
    struct Told<F>(F, Option<Weak<()>>);

    impl<F: FnOnce(AuthVerdict) + Send> Completion for Told<F> {
        fn is_wanted(&self) -> bool {
            self.1.as_ref().is_none_or(|waiting| waiting.strong_count() > 0)
        }

        fn complete(self: Box<Self>, verdict: AuthVerdict) {
            (self.0)(verdict);
        }
    }

    fn told(to: impl FnOnce(AuthVerdict) + Send + 'static) -> Box<dyn Completion> {
        Box::new(Told(to, None))
    }

    /// An authenticator whose hash takes until it is let go on; it says who is being checked.
    fn slow(
        directory: &TestDirectory,
        waiting_max: usize,
    ) -> (PasswordAuthenticator, mpsc::Receiver<String>, mpsc::SyncSender<()>) {
        let file = directory.0.join("users");
        set_password(&file, "alice", b"wonder").unwrap();
        let (checking, checked) = mpsc::sync_channel(8);
        let (go_on, may_go_on) = mpsc::sync_channel(8);
        let verify = move |_: &PasswordFile, user_name: &str, _: &[u8]| {
            checking.send(user_name.to_owned()).unwrap();
            may_go_on.recv().is_ok()
        };
        let options = Options { file, waiting_max };
        (PasswordAuthenticator::start_with(options, verify).unwrap(), checked, go_on)
    }

    fn answer(authenticator: &PasswordAuthenticator, request: AuthRequest) -> AuthVerdict {
        let (tell, verdict) = mpsc::sync_channel(1);
        authenticator.submit(request, told(move |it| tell.send(it).unwrap())).unwrap();
        verdict.recv().unwrap()
    }

    #[test]
    fn a_right_password_gives_an_identity_and_a_wrong_one_a_reason() {
        let directory = TestDirectory::new();
        let authenticator = started(&directory, 4);
        let AuthVerdict::Granted(identity) =
            answer(&authenticator, request(Some("alice"), "wonder"))
        else {
            panic!("alice should come in")
        };
        assert_eq!((&*identity.client_id, identity.user_name.as_deref()), ("c1", Some("alice")));
        assert!(!identity.anonymous);
        for user in ["alice", "mallory"] {
            assert_eq!(
                answer(&authenticator, request(Some(user), "wrong")),
                AuthVerdict::Refused(RefusalReason::BadUserNameOrPassword)
            );
        }
    }

    #[test]
    fn without_a_user_name_only_a_certificate_counts() {
        let directory = TestDirectory::new();
        let authenticator = started(&directory, 4);
        let mut nameless = request(None, "");
        assert_eq!(
            answer(&authenticator, nameless.clone()),
            AuthVerdict::Refused(RefusalReason::NotAuthorized)
        );
        nameless.tls_common_name = Some("device-7".into());
        let AuthVerdict::Granted(identity) = answer(&authenticator, nameless) else {
            panic!("the device should come in")
        };
        assert_eq!(identity.user_name.as_deref(), Some("device-7"));
    }

    #[test]
    fn more_than_may_wait_are_refused_at_once_and_never_told() {
        let directory = TestDirectory::new();
        let (authenticator, checked, go_on) = slow(&directory, 1);
        let (tell, verdicts) = mpsc::sync_channel(8);
        let submit = |name| {
            let tell = tell.clone();
            let completion = told(move |_| tell.send(name).unwrap());
            authenticator.submit(request(Some(name), "wonder"), completion)
        };
        assert_eq!(submit("checked"), Ok(()));
        assert_eq!(checked.recv().unwrap(), "checked");
        assert_eq!(submit("waits"), Ok(()));
        assert_eq!(submit("refused"), Err(AuthBusy));
        (0..2).for_each(|_| go_on.send(()).unwrap());
        assert_eq!(checked.recv().unwrap(), "waits");
        drop((tell, authenticator));
        assert_eq!(verdicts.iter().collect::<Vec<_>>(), ["checked", "waits"]);
    }

    /// Story: a CONNECT that had timed out left its request behind, and it was hashed all the same.
    /// With clients that try again, the thread was busy with requests nobody waited for, each new
    /// one waited behind them until it timed out too, and nobody came in. Requests that are given
    /// up are now neither hashed nor counted against the bound.
    #[test]
    fn a_request_that_was_given_up_is_not_hashed() {
        let directory = TestDirectory::new();
        let (authenticator, checked, go_on) = slow(&directory, 3);
        let submit = |name: &str, client: &Arc<()>| {
            let completion = Box::new(Told(|_| {}, Some(Arc::downgrade(client))));
            authenticator.submit(request(Some(name), "wonder"), completion)
        };
        let (patient, impatient) = (Arc::new(()), Arc::new(()));
        submit("at work", &patient).unwrap();
        assert_eq!(checked.recv().unwrap(), "at work");
        for name in ["given up", "given up too", "and this"] {
            submit(name, &impatient).unwrap();
        }
        assert_eq!(submit("one too many", &patient), Err(AuthBusy));
        drop(impatient);
        assert_eq!(submit("fresh", &patient), Ok(()), "the others have left their places");
        assert_eq!(submit("fresher", &patient), Ok(()));
        (0..3).for_each(|_| go_on.send(()).unwrap());
        drop(go_on);
        assert_eq!(checked.recv().unwrap(), "fresher", "it has its whole time left");
        assert_eq!(checked.recv().unwrap(), "fresh");
        drop(authenticator);
        assert_eq!(checked.iter().count(), 0, "nothing else was hashed");
    }

    /// Story: dropping the authenticator waited for every request in the queue, tens of seconds.
    #[test]
    fn who_still_waits_at_the_end_is_told_without_a_hash() {
        let directory = TestDirectory::new();
        let (authenticator, checked, go_on) = slow(&directory, 4);
        let (tell, verdicts) = mpsc::sync_channel(8);
        let submit = |name| {
            let tell = tell.clone();
            let completion = told(move |verdict| {
                let is_unavailable = verdict == AuthVerdict::Refused(RefusalReason::Unavailable);
                tell.send((name, is_unavailable)).unwrap();
            });
            authenticator.submit(request(Some(name), "wonder"), completion).unwrap();
        };
        submit("checked");
        assert_eq!(checked.recv().unwrap(), "checked");
        submit("waits");
        let ending = thread::spawn(move || drop(authenticator));
        assert_eq!(verdicts.recv().unwrap(), ("waits", true));
        go_on.send(()).unwrap();
        assert_eq!(verdicts.recv().unwrap(), ("checked", false));
        ending.join().unwrap();
        assert_eq!(checked.iter().count(), 0, "nothing else was hashed");
    }

    #[test]
    fn a_reload_with_a_fault_changes_nothing() {
        let directory = TestDirectory::new();
        let authenticator = started(&directory, 4);
        let path = directory.0.join("users");
        set_password(&path, "bob", b"builder").unwrap();
        let is_in = |user, password| {
            matches!(answer(&authenticator, request(Some(user), password)), AuthVerdict::Granted(_))
        };
        assert!(!is_in("bob", "builder"));
        assert_eq!(authenticator.reload().unwrap(), 2);
        assert!(is_in("bob", "builder") && is_in("alice", "wonder"));
        fs::write(&path, "nonsense").unwrap();
        let error = authenticator.reload().unwrap_err().to_string();
        assert!(error.contains("users:1: "), "{error}");
        assert!(is_in("bob", "builder"));
    }

    #[test]
    fn a_file_that_is_not_there_is_said() {
        let directory = TestDirectory::new();
        let options = Options { file: directory.0.join("none"), waiting_max: 1 };
        let error = PasswordAuthenticator::start(options).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the password file "), "{error}");
    }
}
