"""docker/compose.yaml against the files, the images and the broker it names."""

import re
import unittest

import yaml
from manifests import ROOT, dockerfile, options, print_config

import references

COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def brokers():
    return {name: service for name, service in SERVICES.items() if name.startswith("mqttzoo-")}


def servers():
    return {name: service for name, service in SERVICES.items() if name.startswith("zookeeper-")}


def seconds(text):
    return int(text.removesuffix("s"))


class Compose(unittest.TestCase):
    def test_there_are_three_and_three_and_a_database(self):
        self.assertEqual([len(brokers()), len(servers()), len(SERVICES)], [3, 3, 7])

    def test_brokers_understand_file_and_environment(self):
        text = (ROOT / "docker/compose/broker.toml").read_text()
        for name, service in brokers().items():
            variables = dict(service["environment"])
            self.assertLessEqual(set(variables) - {"MQTTZOO_CONFIG"}, set(options()))
            self.assertEqual(variables.pop("MQTTZOO_CONFIG"), "/etc/mqttzoo/broker.toml")
            self.assertEqual(service["volumes"],
                             ["./compose/broker.toml:/etc/mqttzoo/broker.toml:ro"])
            config, refusal = print_config(text, variables)
            self.assertIsNone(refusal)
            with self.subTest(name):
                self.assertEqual(config["name"], name)
                self.assertEqual(config["link_host"], name)
                grace = seconds(service["stop_grace_period"])
                self.assertGreaterEqual(grace, config["drain_timeout_secs"] + 20)
                self.assertTrue(service["ports"][0].startswith("127.0.0.1:"))
                self.assertTrue(service["ports"][0].endswith(f":{config['port']}"))
                for path in [value for key, value in config.items() if key.endswith("_file")]:
                    self.assertIn(path.removeprefix("/run/secrets/"), service["secrets"])
        for key in references.commented_out(text):
            self.assertNotIn(key, options().values(), "the broker knows it now")

    def test_brokers_come_into_the_database(self):
        variables = SERVICES["postgres"]["environment"]
        text = (ROOT / "docker/compose/broker.toml").read_text()
        for service in brokers().values():
            config, _ = print_config(text, dict(service["environment"], MQTTZOO_CONFIG=""))
            self.assertIn(config["db_host"], SERVICES)
            self.assertEqual((config["db_name"], config["db_user"], config["db_password_file"]),
                             (variables["POSTGRES_DB"], variables["POSTGRES_USER"],
                              variables["POSTGRES_PASSWORD_FILE"]))

    def test_the_database_is_asked_where_brokers_ask_it(self):
        command = SERVICES["postgres"]["healthcheck"]["test"][1:]
        self.assertFalse(references.asks_the_wrong_server(command))

    def test_what_is_kept_in_memory_leaves_room_for_clients(self):
        """The tmpfs counts as memory of its container."""
        text = (ROOT / "docker/compose/broker.toml").read_text()
        for name, service in brokers().items():
            config, _ = print_config(text, dict(service["environment"], MQTTZOO_CONFIG=""))
            spool = references.mebibytes(config["activity_spool_bytes_max"])
            tmpfs = references.mebibytes(re.search(r",size=(\w+)", service["tmpfs"][0]).group(1))
            limit = references.mebibytes(service["mem_limit"])
            with self.subTest(name):
                self.assertLessEqual(spool + references.SLACK_MEBIBYTES, tmpfs)
                held = limit * config["limits"]["memory_high_water_percent"] / 100
                self.assertLessEqual(tmpfs + held, limit)

    def test_every_server_that_is_named_has_that_name(self):
        names = {alias for service in servers().values()
                 for alias in service["networks"]["inside"]["aliases"]}
        text = (ROOT / "docker/compose/broker.toml").read_text()
        asked = re.search(r'^zookeeper = "(.*)"$', text, re.MULTILINE).group(1)
        self.assertEqual({server.split(":")[0] for server in asked.split(",")}, names)
        config = (ROOT / "zoo/zoo.cfg").read_text()
        self.assertEqual(set(re.findall(r"^server\.\d=([\w.-]+):", config, re.MULTILINE)), names)
        for name, service in servers().items():
            # Which server it is follows from this name.
            self.assertEqual(service["hostname"], name)

    def test_volumes_secrets_networks_and_files_are_there(self):
        for name, service in SERVICES.items():
            with self.subTest(name):
                for volume in service.get("volumes", []):
                    source = volume.split(":")[0]
                    known = source in COMPOSE["volumes"] or (ROOT / "docker" / source).exists()
                    self.assertTrue(known, source)
                self.assertLessEqual(set(service.get("secrets", [])), set(COMPOSE["secrets"]))
                self.assertLessEqual(set(service["networks"]), set(COMPOSE["networks"]))
        for secret in COMPOSE["secrets"].values():
            self.assertTrue((ROOT / "docker" / secret["file"]).exists())

    def test_images_are_built_here_and_run_as_the_user_they_are_made_for(self):
        for name, service in {**brokers(), **servers()}.items():
            image = service["image"].replace("${MQTTZOO_TAG:-dev}", "dev")
            path = service["build"]["dockerfile"]
            with self.subTest(name):
                self.assertEqual((ROOT / path).read_text(), dockerfile(image))
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
        user = re.search(r"^USER (\d+):", dockerfile("mqttzoo/broker:dev"), re.MULTILINE).group(1)
        for service in brokers().values():
            self.assertIn(f"uid={user},", service["tmpfs"][0])

    def test_what_an_image_is_made_of_reaches_its_build(self):
        """Every COPY of a Dockerfile names what .dockerignore lets through."""
        let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines()
                       if line.startswith("!")]
        for name in ["broker", "zookeeper"]:
            for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile(f"mqttzoo/{name}:x"), re.M):
                for source in [word for word in line.split() if not word.startswith("--")][:-1]:
                    with self.subTest(source):
                        self.assertTrue((ROOT / source).exists())
                        self.assertTrue(any(source == path or source.startswith(path + "/")
                                            for path in let_through))


if __name__ == "__main__":
    unittest.main()
