"""Where a container's control group is, and the settings of it that docker run names one by one."""
import contextlib
import glob
import os

import pytest

# Where this machine's hierarchies with memory and with pids are.
TREES = [tree for tree in ('/sys/fs/cgroup/memory', '/sys/fs/cgroup/pids', '/sys/fs/cgroup') if os.path.exists(f'{tree}/cgroup.procs')]
V1 = os.path.exists('/sys/fs/cgroup/memory/memory.swappiness')


@contextlib.contextmanager
def parent(name):
    """A name for a group; what was made of it in any hierarchy goes."""
    try:
        yield name
    finally:
        for folder in sorted(glob.glob(f'/sys/fs/cgroup/**/{name.split("/")[0]}/', recursive=True), key=len, reverse=True):
            for below, _, _ in os.walk(folder, topdown=False):
                os.rmdir(below)


@pytest.mark.differs_today('leaves the folder for a moment')
def test_a_group_of_the_users_choice(docker, name):
    with parent(f'{name}p/deep') as group:
        docker.ok('run', '-d', '--name', name, '--cgroup-parent', '/' + group, '--memory', '64m', 'bb', 'sleep', '100')
        container = docker.inspect(name)
        assert container['HostConfig']['CgroupParent'] == '/' + group
        folders = [folder for tree in TREES for folder in glob.glob(f'{tree}/{group}/{container["Id"]}')]
        assert folders
        if not docker.vm:
            assert any(str(container['State']['Pid']) in open(f'{folder}/cgroup.procs').read().split() for folder in folders)
        assert docker.ok('stats', '--no-stream', '--format', '{{.PIDs}}', name) != '0'
        docker.ok('update', '--cpu-shares', '77', name)
        docker.ok('rm', '-f', name)
        assert not any(os.path.exists(folder) for folder in folders)


@pytest.mark.parametrize('path', ['/a/../../b', '/', '..'])
@pytest.mark.differs_today('takes it')
def test_a_group_that_is_none(docker, path):
    answer = docker('create', '--cgroup-parent', path, 'bb')
    assert answer.code == 1 and 'invalid cgroup parent' in answer.err


def test_memory_settings(api, docker, name):
    answer = docker('run', '-d', '--name', name, '--memory', '64m', '--memory-swappiness', '7', '--oom-kill-disable', 'bb', 'sleep', '100')
    assert answer.code == 0
    shown = docker.inspect(name)['HostConfig']
    assert (shown['MemorySwappiness'], shown['OomKillDisable']) == (7, True)
    group = glob.glob(f'/sys/fs/cgroup/memory/*/{docker.inspect(name)["Id"]}') if V1 and not docker.vm else []
    for folder in group:
        assert open(f'{folder}/memory.swappiness').read() == '7\n'
        assert 'oom_kill_disable 1\n' in open(f'{folder}/memory.oom_control').read()
    assert group or 'OomKillDisable discarded' in answer.err
    docker.ok('rm', '-f', name)
    for value in (101, -2):
        answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'MemorySwappiness': value}})
        assert answer.status == 400 and 'swappiness' in answer.message.lower(), answer
    assert docker.inspect(docker.ok('create', '--name', name, '--memory-swappiness', '-1', 'bb'))['HostConfig']['MemorySwappiness'] is None
    docker.ok('rm', name)


@pytest.mark.differs('knows none before 24')
def test_annotations(docker, name):
    docker.needs((1, 43), 'has no such flag')
    docker.ok('create', '--name', name, '--annotation', 'org.example.a=b', 'bb')
    assert docker.inspect(name)['HostConfig']['Annotations'] == {'org.example.a': 'b'}
    docker.ok('rm', name)
