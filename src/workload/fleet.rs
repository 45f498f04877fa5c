//! The pods that run the platform, and the resource and scopes behind each one's spans.
//!
//! Read [`Fleet`].

use rand::Rng;
use rand::rngs::SmallRng;

use crate::span::{Attributes, Origin, Resource, Scope};

use super::attributes::{number, text};
use super::topology::{SERVICES, Service, ServiceFacts};

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The instrumentation that records a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Instrument {
    /// HTTP and gRPC, both sides.
    Rpc,
    /// Database clients.
    Database,
    /// Message brokers.
    Messaging,
    /// The service's own code.
    Own,
}

const INSTRUMENTS: [Instrument; 4] = [
    Instrument::Rpc,
    Instrument::Database,
    Instrument::Messaging,
    Instrument::Own,
];

/// One pod of a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pod {
    first_origin: usize,
    /// How far its clock is ahead of the others'.
    pub(super) skew_nano: i64,
    /// Whether it runs the second version.
    pub(super) renewed: bool,
}

impl Pod {
    /// The index of the origin of this pod's spans by that instrument.
    pub(super) fn origin(&self, instrument: Instrument) -> usize {
        self.first_origin + instrument as usize
    }
}

/// All pods of both versions.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) parts: Vec<(Resource, Scope)>,
    pub(super) origins: Vec<Origin>,
    /// For each service the pods before and after its rollout.
    pods: Vec<[Vec<Pod>; 2]>,
}

impl Fleet {
    /// The fleet; pod names and nodes come from `random`.
    pub(super) fn new(random: &mut SmallRng) -> Self {
        let mut fleet = Self {
            parts: Vec::new(),
            origins: Vec::new(),
            pods: Vec::new(),
        };
        for service in &SERVICES {
            let old = fleet.deploy(service, false, random);
            let new = if service.rollout_at <= 1.0 {
                fleet.deploy(service, true, random)
            } else {
                Vec::new()
            };
            fleet.pods.push([old, new]);
        }
        fleet
    }

    /// A pod that serves a request at `share` of the time range. During a rollout, which takes
    /// two hundredths of the range, both versions serve.
    pub(super) fn pod(&self, service: Service, share: f64, random: &mut SmallRng) -> Pod {
        let facts = &SERVICES[service as usize];
        let done = (share - facts.rollout_at) / 0.02;
        let renewed = done > 0.0 && (done >= 1.0 || random.random::<f64>() < done);
        let pods = &self.pods[service as usize][usize::from(renewed)];
        pods[random.random_range(0..pods.len())]
    }

    fn deploy(&mut self, facts: &ServiceFacts, renewed: bool, random: &mut SmallRng) -> Vec<Pod> {
        let replica_set: u32 = random.random();
        (0..facts.pod_count)
            .map(|index| {
                let resource = resource(facts, renewed, replica_set, random);
                let first_origin = self.origins.len();
                for instrument in INSTRUMENTS {
                    let scope = scope(facts, instrument);
                    self.origins.push(Origin::new(&resource, &scope));
                    self.parts.push((resource.clone(), scope));
                }
                // One clock of the couriers' side is wrong, as in every fleet.
                let skewed = facts.name == "tracking" && index == 0;
                Pod {
                    first_origin,
                    skew_nano: if skewed { -4_700_000 } else { 0 },
                    renewed,
                }
            })
            .collect()
    }
}

fn resource(
    facts: &ServiceFacts,
    renewed: bool,
    replica_set: u32,
    random: &mut SmallRng,
) -> Resource {
    let suffix: u32 = random.random::<u32>() & 0xf_ffff;
    let pod = format!("{}-{replica_set:08x}-{suffix:05x}", facts.name);
    let node = random.random_range(1..=9);
    let instance = format!("{:032x}", random.random::<u128>());
    let attributes: Attributes = vec![
        text("service.name", facts.name),
        text("service.namespace", facts.namespace),
        text("service.version", facts.versions[usize::from(renewed)]),
        text("service.instance.id", instance),
        text("deployment.environment.name", "production"),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.language", facts.language),
        text("telemetry.sdk.version", sdk_version(facts.language)),
        text("cloud.region", "eu-north-1"),
        text(
            "cloud.availability_zone",
            ["eu-north-1a", "eu-north-1b", "eu-north-1c"][node % 3],
        ),
        text("host.name", format!("node-{node:02}.supper.internal")),
        text("k8s.cluster.name", "supper-eu"),
        text("k8s.namespace.name", facts.namespace),
        text("k8s.deployment.name", facts.name),
        text("k8s.pod.name", pod),
        text("k8s.node.name", format!("node-{node:02}")),
        number("k8s.container.restart_count", 0),
        number("process.pid", random.random_range(1..40)),
    ];
    Resource {
        attributes,
        dropped_attributes_count: 0,
        schema_url: SCHEMA_URL.to_string(),
    }
}

fn sdk_version(language: &str) -> &'static str {
    match language {
        "go" => "1.38.0",
        "java" => "1.55.0",
        "nodejs" => "2.1.0",
        "python" => "1.37.0",
        "rust" => "0.31.0",
        "dotnet" => "1.13.1",
        _ => "1.10.0",
    }
}

fn scope(facts: &ServiceFacts, instrument: Instrument) -> Scope {
    let area = match instrument {
        Instrument::Rpc => "rpc",
        Instrument::Database => "database",
        Instrument::Messaging => "kafka",
        Instrument::Own => "",
    };
    let (name, version) = if area.is_empty() {
        (format!("supper.{}", facts.name), facts.versions[0])
    } else {
        (format!("opentelemetry.{}.{area}", facts.language), "0.63.0")
    };
    Scope {
        name,
        version: version.to_string(),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        schema_url: SCHEMA_URL.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_rollout_moves_all_traffic_to_the_second_version() {
        let mut random = SmallRng::seed_from_u64(1);
        let fleet = Fleet::new(&mut random);
        let renewed = |share: f64, random: &mut SmallRng| {
            (0..200)
                .filter(|_| fleet.pod(Service::Pricing, share, random).renewed)
                .count()
        };
        assert_eq!(renewed(0.44, &mut random), 0);
        assert!((50..150).contains(&renewed(0.46, &mut random)));
        assert_eq!(renewed(0.48, &mut random), 200);
    }
}
