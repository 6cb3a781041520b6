//! A cluster under test: a real ensemble, and brokers as their users start them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::checker::Checker;
use super::load::{Addresses, Publisher, PublisherPlan, Subscriber, SubscriberPlan};
use super::proxy::{Cut, Network};
use crate::conformance::{Client, Stage, Version};
use crate::harness::{Broker, Ensemble};

/// How long a broker may take to join, and a cluster to find its balance again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a cluster is put together.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) brokers: usize,
    /// After how long a silent broker is declared dead.
    pub(crate) timeout_secs: u32,
    /// Whether the brokers reach each other and the ensemble through a network of ours.
    pub(crate) has_network: bool,
    /// What every broker is told besides.
    pub(crate) arguments: Vec<String>,
}

impl Default for Plan {
    /// Brokers none of which is to die: a machine that is busy with other tests may hold them up for seconds.
    fn default() -> Self {
        Self { brokers: 3, timeout_secs: 12, has_network: false, arguments: Vec::new() }
    }
}

impl Plan {
    /// So many brokers of which one that falls silent is soon dead to the others.
    pub(crate) fn mortal(brokers: usize) -> Self {
        Self { brokers, timeout_secs: 3, ..Self::default() }
    }
}

/// Brokers `broker-1` to `broker-N` that are one. All of it ends when this is dropped.
pub(crate) struct ClusterUnderTest {
    plan: Plan,
    brokers: BTreeMap<usize, Broker>,
    network: Option<Network>,
    addresses: Addresses,
    checker: Checker,
    zookeeper: String,
    // Last, so that it outlives the brokers.
    ensemble: Ensemble,
}

impl ClusterUnderTest {
    /// So many brokers, ready. Nothing where ZooKeeper is not installed.
    pub(crate) fn start(brokers: usize) -> Option<Self> {
        Self::start_as(Plan { brokers, ..Plan::default() })
    }

    /// The same as the plan says.
    pub(crate) fn start_as(plan: Plan) -> Option<Self> {
        let ensemble = Ensemble::start()?;
        let zookeeper = ensemble.with_fresh_chroot();
        let mut cluster = Self {
            brokers: BTreeMap::new(),
            network: plan.has_network.then(Network::new),
            addresses: Addresses::default(),
            checker: Checker::default(),
            zookeeper,
            ensemble,
            plan,
        };
        cluster.add(cluster.plan.brokers);
        Some(cluster)
    }

    /// Starts so many brokers more, all at once, and waits until they are ready.
    pub(crate) fn add(&mut self, count: usize) {
        self.add_in(&[], count);
    }

    /// The same, in this environment.
    pub(crate) fn add_in(&mut self, environment: &[(&str, &str)], count: usize) {
        let first = self.brokers.len() + 1;
        let numbers = first..first + count;
        let arguments: Vec<_> = numbers.clone().map(|n| self.arguments(n)).collect();
        let started: Vec<Broker> = std::thread::scope(|scope| {
            let starting: Vec<_> = arguments
                .into_iter()
                .map(|arguments| {
                    scope.spawn(|| Broker::start_in(environment, |_directory| arguments))
                })
                .collect();
            starting.into_iter().map(|one| one.join().expect("a broker starts")).collect()
        });
        self.brokers.extend(numbers.clone().zip(started));
        // All before the first is waited for: it may need the others.
        numbers.clone().for_each(|number| self.note_process(number));
        numbers.for_each(|number| self.note_up(number));
    }

    /// The same, told this besides and not what the plan says.
    pub(crate) fn add_told(&mut self, arguments: Vec<String>, count: usize) {
        let planned = std::mem::replace(&mut self.plan.arguments, arguments);
        self.add(count);
        self.plan.arguments = planned;
    }

    fn arguments(&mut self, number: usize) -> Vec<String> {
        let (zookeeper, link) = match &mut self.network {
            Some(network) => {
                (network.way_to_ensemble(number, &self.zookeeper), network.link_arguments(number))
            }
            None => (self.zookeeper.clone(), ["--link-port", "0"].map(str::to_owned).to_vec()),
        };
        let mut arguments = cluster_arguments(&zookeeper, &format!("broker-{number}"));
        let timeout = self.plan.timeout_secs.to_string();
        arguments.extend(["--zookeeper-timeout-secs".to_owned(), timeout]);
        arguments.extend(link);
        arguments.extend(self.plan.arguments.iter().cloned());
        arguments
    }

    fn note_process(&self, number: usize) {
        if let Some(network) = &self.network {
            network.note_pid(number, self.broker(number).pid());
        }
    }

    /// Waits until a broker is ready, and lets the clients know it.
    fn note_up(&self, number: usize) {
        self.wait_until_ready(number);
        self.addresses.note(number, Some(self.broker(number).port()));
    }

    /// The broker with this number.
    #[track_caller]
    pub(crate) fn broker(&self, number: usize) -> &Broker {
        self.brokers.get(&number).expect("brokers are numbered from 1 on")
    }

    #[track_caller]
    fn broker_mut(&mut self, number: usize) -> &mut Broker {
        self.brokers.get_mut(&number).expect("brokers are numbered from 1 on")
    }

    /// The ensemble.
    pub(crate) fn ensemble(&mut self) -> &mut Ensemble {
        &mut self.ensemble
    }

    /// What a broker needs to join besides its name.
    pub(crate) fn zookeeper(&self) -> &str {
        &self.zookeeper
    }

    /// The books of this run.
    pub(crate) fn checker(&self) -> &Checker {
        &self.checker
    }

    /// A stage for scripts of raw bytes against a broker.
    pub(crate) fn stage(&self, number: usize, version: Version) -> Stage {
        self.broker(number).stage(version)
    }

    /// A clean client of MQTT 5.0 at a broker.
    #[track_caller]
    pub(crate) fn client(&self, number: usize, name: &str) -> Client {
        self.stage(number, Version::V5).client(name).expect("a ready broker lets clients in")
    }

    /// Lets a publisher begin.
    pub(crate) fn publish(&self, plan: PublisherPlan) -> Publisher {
        Publisher::start(&self.checker, &self.addresses, plan)
    }

    /// Lets a subscriber begin; it has its SUBACK.
    #[track_caller]
    pub(crate) fn subscribe(&self, plan: SubscriberPlan) -> Subscriber {
        Subscriber::start(&self.checker, &self.addresses, plan)
    }

    /// Whether `/readyz` says 200.
    pub(crate) fn is_ready(&self, number: usize) -> bool {
        self.readiness(number).is_some_and(|(status, _)| status == 200)
    }

    /// Status and words of `/readyz`; nothing when no answer comes.
    pub(crate) fn readiness(&self, number: usize) -> Option<(u16, String)> {
        self.broker(number).ask_admin("GET", "/readyz").ok()
    }

    /// Waits until a broker is ready.
    #[track_caller]
    pub(crate) fn wait_until_ready(&self, number: usize) {
        self.wait_until(number, "it is ready", |cluster| cluster.is_ready(number));
    }

    /// Waits until `is_so`; the log of a broker is shown when it does not come to that.
    #[track_caller]
    pub(crate) fn wait_until(&self, number: usize, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            let log = || self.broker(number).log();
            assert!(Instant::now() < deadline, "broker-{number}: not {what}:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills a broker.
    pub(crate) fn kill(&mut self, number: usize) {
        self.addresses.note(number, None);
        self.broker_mut(number).kill();
    }

    /// Asks a broker to end, and waits until it has.
    #[track_caller]
    pub(crate) fn terminate(&mut self, number: usize) {
        let status = self.broker_mut(number).terminate();
        self.addresses.note(number, None);
        assert!(status.success(), "{status}:\n{}", self.broker(number).log());
    }

    /// Starts a broker that has ended again, and waits until it is ready.
    #[track_caller]
    pub(crate) fn restart(&mut self, number: usize) {
        self.broker_mut(number).start_again();
        self.note_process(number);
        self.note_up(number);
    }

    /// The same of all, which were killed at once: none is waited for before all are started.
    #[track_caller]
    pub(crate) fn restart_all(&mut self) {
        self.brokers.values_mut().for_each(Broker::start_again);
        self.brokers.keys().for_each(|number| self.note_process(*number));
        self.brokers.keys().for_each(|number| self.note_up(*number));
    }

    /// Waits until broker `by` knows that the broker with this number was declared dead.
    #[track_caller]
    pub(crate) fn wait_until_declared_dead(&self, number: usize, by: usize) {
        let member = format!("member=broker-{number}");
        self.wait_until(by, "the other one is declared dead", |cluster| {
            let log = cluster.broker(by).log();
            log.lines().any(|line| line.contains("was declared dead") && line.contains(&member))
        });
    }

    /// Waits until a broker has joined for this many times.
    #[track_caller]
    pub(crate) fn wait_until_joined(&self, number: usize, times: usize) {
        self.wait_until(number, "it has joined", |cluster| {
            cluster.broker(number).count_in_log("this broker is part of the cluster") >= times
        });
        self.wait_until_ready(number);
    }

    /// Stops a broker in its tracks: its sockets stay open, and it says nothing.
    pub(crate) fn pause(&self, number: usize) {
        self.broker(number).signal(Signal::STOP);
    }

    /// Lets a paused broker go on.
    pub(crate) fn resume(&self, number: usize) {
        self.broker(number).signal(Signal::CONT);
    }

    /// Cuts two brokers, or a broker and the ensemble, off from each other.
    pub(crate) fn cut(&self, one: usize, other: usize, cut: Cut) {
        self.network.as_ref().expect("the plan asked for a network").cut(one, other, cut);
    }

    /// Lets them reach each other again.
    pub(crate) fn heal(&self, one: usize, other: usize) {
        self.network.as_ref().expect("the plan asked for a network").heal(one, other);
    }

    /// Waits until every promise is kept.
    #[track_caller]
    pub(crate) fn settle(&self) {
        self.checker.settle(PATIENCE);
    }
}

impl Drop for ClusterUnderTest {
    /// Takes leave of nobody: what a broker does when it is asked to end has tests of its own.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, broker) in &self.brokers {
                eprintln!("---- log of broker-{number}\n{}", tail(&broker.log()));
            }
        }
        self.brokers.values_mut().for_each(Broker::kill);
    }
}

/// What a broker is told so that it joins under this name, with any ports but that of its links.
pub(crate) fn cluster_arguments(zookeeper: &str, name: &str) -> Vec<String> {
    ["--zookeeper", zookeeper, "--name", name, "--admin-port", "0", "--threads", "2"]
        .map(str::to_owned)
        .to_vec()
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(100)..].join("\n")
}
