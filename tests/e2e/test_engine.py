"""docker version, docker info: who answers, and what it says of itself."""
import os
import re

import pytest


def test_version_names_client_and_server(docker):
    client, server = docker.ok('version', '--format', '{{.Client.APIVersion}} {{.Server.APIVersion}}').split()
    assert re.fullmatch(r'1\.\d+', client) and re.fullmatch(r'1\.\d+', server)
    assert docker.ok('version', '--format', '{{.Server.Os}}/{{.Server.Arch}}') == 'linux/amd64'


def test_version_as_people_read_it(docker):
    text = docker.ok('version')
    assert 'Client' in text and 'Server' in text and 'Engine:' in text


def test_info_counts_containers_and_images(docker, name):
    before = docker.ok('info', '--format', '{{.Containers}} {{.ContainersRunning}} {{.Images}}').split()
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '100')
    after = docker.ok('info', '--format', '{{.Containers}} {{.ContainersRunning}} {{.Images}}').split()
    assert [int(b) - int(a) for a, b in zip(before, after)] == [1, 1, 0]


def test_info_describes_the_host(docker):
    assert int(docker.ok('info', '--format', '{{.NCPU}}')) == os.cpu_count()
    assert docker.ok('info', '--format', '{{.KernelVersion}}') == os.uname().release
    assert docker.ok('info', '--format', '{{.OSType}}') == 'linux'
    assert 'name=seccomp' in docker.ok('info', '--format', '{{.SecurityOptions}}')
    assert docker.ok('info', '--format', '{{.CgroupDriver}}') in ('cgroupfs', 'systemd')


def test_info_as_people_read_it_has_no_error(docker):
    text = docker('info')
    assert text.code == 0 and 'ERROR' not in text.out + text.err


@pytest.mark.berth
def test_version_says_berth(docker):
    assert 'Berth' in docker.ok('version', '--format', '{{.Server.Platform.Name}}')
