//! The [`Authenticator`] that knows passwords.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;

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

/// Checks passwords on a thread of its own. Dropping it lets the thread finish what waits.
#[derive(Debug)]
pub struct PasswordAuthenticator {
    path: PathBuf,
    file: Arc<ArcSwap<PasswordFile>>,
    requests: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// A request and whom to tell.
struct Job {
    request: AuthRequest,
    user_name: Arc<str>,
    completion: Completion,
}

impl PasswordAuthenticator {
    /// Reads the file and starts the thread.
    ///
    /// # Errors
    /// The file cannot be used, or the thread not be started.
    pub fn start(options: Options) -> Result<Self, FileError> {
        let file = Arc::new(ArcSwap::from_pointee(PasswordFile::open(&options.file)?));
        let (requests, jobs) = sync_channel(options.waiting_max);
        let known = Arc::clone(&file);
        let thread = thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(move || check_passwords(&jobs, &known))
            .map_err(FileError::Spawn)?;
        Ok(Self { path: options.file, file, requests: Some(requests), thread: Some(thread) })
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

    /// How many users there are.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.file.load().len()
    }
}

impl Authenticator for PasswordAuthenticator {
    /// Who gives no user name is known by the certificate, or refused: anonymous clients are the
    /// business of the listener.
    fn submit(&self, request: AuthRequest, completion: Completion) -> Result<(), AuthBusy> {
        let Some(user_name) = request.user_name.clone() else {
            completion(match request.tls_common_name.clone() {
                Some(common_name) => granted(&request, common_name),
                None => AuthVerdict::Refused(RefusalReason::NotAuthorized),
            });
            return Ok(());
        };
        let requests = self.requests.as_ref().ok_or(AuthBusy)?;
        requests.try_send(Job { request, user_name, completion }).map_err(|_| AuthBusy)
    }
}

impl Drop for PasswordAuthenticator {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn check_passwords(jobs: &Receiver<Job>, file: &ArcSwap<PasswordFile>) {
    for Job { request, user_name, completion } in jobs {
        let password = request.password.as_deref().unwrap_or_default();
        let is_right = file.load().verify(&user_name, password);
        completion(if is_right {
            granted(&request, user_name)
        } else {
            AuthVerdict::Refused(RefusalReason::BadUserNameOrPassword)
        });
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
    use std::{fs, sync::mpsc};

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

    fn answer(authenticator: &PasswordAuthenticator, request: AuthRequest) -> AuthVerdict {
        let (told, verdict) = mpsc::sync_channel(1);
        authenticator.submit(request, Box::new(move |it| told.send(it).unwrap())).unwrap();
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
        let authenticator = started(&directory, 1);
        let (inside, is_inside) = mpsc::sync_channel(1);
        let (go_on, may_go_on) = mpsc::sync_channel::<()>(1);
        let holding = Box::new(move |_| {
            inside.send(()).unwrap();
            may_go_on.recv().unwrap();
        });
        authenticator.submit(request(Some("alice"), "wonder"), holding).unwrap();
        is_inside.recv().unwrap();
        let (told, verdicts) = mpsc::sync_channel(8);
        let submit = |name| {
            let told = told.clone();
            let completion = Box::new(move |_| told.send(name).unwrap());
            authenticator.submit(request(Some("alice"), "wonder"), completion)
        };
        assert_eq!(submit("waits"), Ok(()));
        assert_eq!(submit("refused"), Err(AuthBusy));
        go_on.send(()).unwrap();
        drop((told, authenticator));
        assert_eq!(verdicts.iter().collect::<Vec<_>>(), ["waits"]);
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
