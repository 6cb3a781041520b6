"""Both Dockerfiles: what an image is made from, who runs in it, and how it ends."""

import json
import re
import tomllib
import unittest

from manifests import ROOT, broker_workload, containers, rendered

CARGO = tomllib.loads((ROOT / "Cargo.toml").read_text())
IMAGES = ["broker", "zookeeper"]


def text_of(image):
    """A Dockerfile, each instruction in one line."""
    return (ROOT / "docker" / f"{image}.Dockerfile").read_text().replace("\\\n", "")


def argument(image, name):
    return re.search(rf"^ARG {name}=(\S+)$", text_of(image), re.MULTILINE).group(1)


def last_stage(image):
    return re.split(r"^FROM ", text_of(image), flags=re.MULTILINE)[-1]


class Images(unittest.TestCase):
    def test_bases_have_a_tag_that_says_what_they_are_and_can_be_pinned(self):
        for image in IMAGES:
            for base in re.findall(r"^FROM (\S+)", text_of(image), re.MULTILINE):
                with self.subTest(image=image, base=base):
                    # By a digest, too: --build-arg.
                    name = re.fullmatch(r"\$\{(\w+)\}", base).group(1)
                    self.assertRegex(argument(image, name), r"^[a-z]+:(?!latest$)[\w.-]+$")

    def test_no_frontend_is_fetched_for_the_build(self):
        for path in (ROOT / "docker").rglob("*.Dockerfile"):
            self.assertNotRegex(path.read_text(), r"(?im)^# *syntax *=")

    def test_who_runs_is_no_root_and_has_a_number(self):
        for image in IMAGES:
            users = re.findall(r"^USER (.*)$", last_stage(image), re.MULTILINE)
            self.assertEqual(len(users), 1)
            self.assertRegex(users[0], r"^[1-9]\d{3,}:[1-9]\d{3,}$")

    def test_it_is_started_without_a_shell_and_ended_by_sigterm(self):
        for image in IMAGES:
            stage = last_stage(image)
            command = json.loads(re.search(r"^ENTRYPOINT (.*)$", stage, re.MULTILINE).group(1))
            self.assertEqual(len(command), 1)
            folder, _, program = command[0].rpartition("/")
            self.assertEqual(folder, "/usr/local/bin")
            self.assertIn("STOPSIGNAL SIGTERM", stage)
            self.assertNotRegex(stage, r"(?m)^(CMD|SHELL|HEALTHCHECK|ADD) ")
            with self.subTest(image):
                self.assertIn(program, {"broker": "mqtt_broker", "zookeeper": "zookeeper-server"}[image])

    def test_it_is_labelled(self):
        for image in IMAGES:
            for label in ["title", "description", "licenses", "revision"]:
                self.assertRegex(last_stage(image), rf'org\.opencontainers\.image\.{label}="[^"]+"')
            self.assertIn(f'licenses="{CARGO["package"]["license"]}"', last_stage(image))
        self.assertEqual(argument("broker", "VERSION"), CARGO["package"]["version"])

    def test_what_is_built_is_what_was_tried(self):
        """With the versions of Cargo.lock, by a compiler that is new enough, all three programs."""
        build = re.search(r"^RUN .*cargo build.*$", text_of("broker"), re.MULTILINE).group(0)
        for word in ["--release", "--locked", "--bins", "--mount=type=cache"]:
            self.assertIn(word, build)
        compiler = re.match(r"rust:(\d+)\.(\d+)\.", argument("broker", "RUST")).groups()
        needed = CARGO["package"]["rust-version"].split(".")[:2]
        self.assertGreaterEqual(*([int(number) for number in version] for version in [compiler, needed]))
        programs = {path.stem for path in (ROOT / "src/bin").glob("*.rs")}
        self.assertEqual(set(re.findall(r"target/release/(\w+)", build)), programs)

    def test_only_what_is_named_gets_into_a_build(self):
        lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines()
                 if line and not line.startswith("#")]
        self.assertEqual(lines[0], "*")
        self.assertTrue(all(line.startswith("!") for line in lines[1:]))
        self.assertFalse([line for line in lines if "secret" in line or "k8s" in line])

    def test_nothing_runs_in_the_last_stage_of_the_broker(self):
        self.assertNotRegex(last_stage("broker"), r"(?m)^RUN ")

    def test_production_asks_for_the_version_that_this_is(self):
        image = containers(broker_workload(rendered("production")))[0]["image"]
        self.assertTrue(image.endswith(":" + CARGO["package"]["version"]))


if __name__ == "__main__":
    unittest.main()
