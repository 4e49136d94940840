"""What a builder keeps between builds, as clients see it: steps and cache mounts in the lists, and what a prune takes."""
import json
import os
import re
import urllib.parse

import pytest

from test_build import Project, project  # noqa: F401
from test_buildx import PLUGINS, Buildx

MOUNT = 'FROM bb\nRUN --mount=type=cache,target=/c,id=ID dd if=/dev/zero of=/c/big bs=1M count=3 2>/dev/null; echo x >>/c/runs; cp /c/runs /runs\n'


@pytest.fixture(autouse=True)
def nothing_kept(docker):
    docker.ok('builder', 'prune', '-af')


def rows(api):
    """All but what is kept of clients' contexts (test_build_contexts.py)."""
    return [row for row in api.get('/system/df?type=build-cache').json['BuildCache'] if row['Type'] != 'source.local']


@pytest.mark.differs_today('has no mounts in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_a_cache_mount_is_counted_and_pruned(project, docker, api, name):
    project.ok(MOUNT.replace('ID', name))
    mounts = [row for row in rows(api) if row['Type'] == 'exec.cachemount']
    assert len(mounts) == 1 and mounts[0]['Size'] >= 3 << 20 and name in mounts[0]['Description'] and mounts[0]['UsageCount'] == 1
    assert not mounts[0]['InUse'] and not mounts[0]['Shared']
    usage = [json.loads(line) for line in docker.ok('system', 'df', '--format', '{{json .}}').splitlines()]
    assert [row['TotalCount'] for row in usage if row['Type'] == 'Build Cache'] == ['3']
    assert 'Total reclaimed space: 0B' in docker.ok('builder', 'prune', '-f', '--filter', 'type=regular', '--filter', 'until=24h')
    gone = docker.ok('builder', 'prune', '-f', '--filter', 'type=exec.cachemount')
    assert mounts[0]['ID'] in gone and re.search(r'Total reclaimed space: 3\.\d+MB', gone)
    assert [row['Type'] for row in rows(api)] == ['regular']
    project.ok(MOUNT.replace('ID', name), '--no-cache')
    assert project.run('cat', '/runs') == 'x'


@pytest.mark.differs_today('has no mounts in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_what_fits_into_the_room_stays(project, docker, api, name):
    project.ok(MOUNT.replace('ID', name))
    docker.ok('builder', 'prune', '-af', '--keep-storage', '100MB')
    assert len(rows(api)) == 2
    assert api.post('/build/prune?all=1&max-used-space=1000').json['SpaceReclaimed'] >= 3 << 20
    assert [row['Type'] for row in rows(api)] in ([], ['regular'])
    assert api.post('/build/prune?all=1&min-free-space=1').json['CachesDeleted'] is None


@pytest.mark.berth
@pytest.mark.parametrize('filters, message', [
    ({'color': {'red': True}}, "invalid filter 'color'"),
    ({'type': {'a': True, 'b': True}}, 'filters expect only one value'),
    ({'id': {'(': True}}, 'invalid filter'),
])
def test_filters_that_are_none(api, filters, message):
    answer = api.post('/build/prune?filters=' + urllib.parse.quote(json.dumps(filters)))
    assert answer.status == 400 and message in answer.message


@pytest.mark.container_only('HostConfig.Mounts')
def test_by_the_plug_in(docker, tmp_path, name):
    if not os.path.exists(os.path.join(PLUGINS, 'docker-buildx')):
        pytest.skip('the plug-in is not here: tools/peers plugins-sid fetches it, make check-full does')
    plugins = tmp_path / 'home/.docker/cli-plugins'
    plugins.mkdir(parents=True)
    os.symlink(os.path.join(PLUGINS, 'docker-buildx'), plugins / 'docker-buildx')
    (tmp_path / 'context').mkdir()
    (tmp_path / 'context/Dockerfile').write_text(MOUNT.replace('ID', name))
    buildx = Buildx(docker, tmp_path / 'home')
    buildx.ok('build', '-t', name, str(tmp_path / 'context'))
    listed = buildx.ok('du', '--verbose', '--filter', 'type=exec.cachemount')
    assert listed.count('\nID:') + listed.startswith('ID:') == 1 and 'exec.cachemount' in listed and '3.1' in listed
    assert 'exec.cachemount' not in buildx.ok('du', '--verbose', '--filter', 'type=regular')
    buildx.ok('prune', '-f', '--filter', 'type=exec.cachemount')
    assert 'exec.cachemount' not in buildx.ok('du', '--verbose')
    docker.ok('rmi', name)
