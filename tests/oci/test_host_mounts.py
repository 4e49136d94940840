"""Containers without a mount namespace: as with runc their mounts stand in the caller's; here they go with the container. And mounts in a rootfs."""
import os

import conftest
import pytest
import test_kill
from killing import run_to


def mounts_below(path):
    with open('/proc/self/mountinfo') as file:
        return [line.split()[4] for line in file if line.split()[4].startswith(str(path))]


@pytest.fixture
def shared(bundle):
    bundle.without_namespace('mount')
    bundle.linux['maskedPaths'] = bundle.linux['readonlyPaths'] = []
    return bundle


def test_paths_cannot_be_hidden_on_the_host(bundle):
    bundle.without_namespace('mount')
    done = bundle.args('true').run()
    assert done.returncode != 0
    assert 'unable to restrict sys entries without a private MNT namespace' in done.stderr


@pytest.mark.berth
def test_the_mounts_are_the_hosts_until_the_container_goes(shared):
    with open('/proc/self/mountinfo') as file:
        before = file.read()
    shared.up()
    rootfs = str(shared.rootfs)
    assert {rootfs, rootfs + '/proc', rootfs + '/dev', rootfs + '/dev/pts', rootfs + '/sys'} <= set(mounts_below(rootfs))
    own, its = os.stat('/proc/self/ns/mnt'), os.stat(f'/proc/{shared.state()["pid"]}/ns/mnt')
    assert own.st_ino == its.st_ino
    assert shared.call('delete', '--force', shared.id).returncode == 0
    with open('/proc/self/mountinfo') as file:  # nothing left, and no mount of the host's is shared with others, or not, as it was
        assert file.read() == before


def test_the_rootfs_is_the_root(shared):
    assert shared.output('ls /; test -c /dev/null && echo device; cat /proc/1/comm; true').split() == \
        sorted(os.listdir(shared.rootfs)) + ['device', 'sh']
    if conftest.RUNTIME != conftest.OURS:
        os.system(f'umount -l {shared.rootfs}')


@pytest.mark.berth
def test_a_read_only_root_is_one(shared):
    shared.config['root']['readonly'] = True
    assert shared.output('touch /x 2>/dev/null || echo refused') == 'refused'
    (shared.rootfs / 'x').touch()  # the host's own folder is as it was


@pytest.mark.berth
def test_exec_is_in_the_container(shared):
    """runc's is in the host's root."""
    shared.up()
    done = shared.exec('sh', '-c', 'ls /; cat /proc/1/comm')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(os.listdir(shared.rootfs)) + ['sh']


@pytest.mark.berth
@pytest.mark.parametrize('break_it', [
    lambda bundle: bundle.args('/nosuch'),
    lambda bundle: bundle.mount('/data', 'none', 'nosuchfs'),
    lambda bundle: bundle.hook('createRuntime', 'exit 1')])
def test_what_fails_leaves_no_mount(shared, break_it):
    break_it(shared.args('true'))
    assert shared.run().returncode != 0
    assert shared.remains() == []


@pytest.mark.berth
@pytest.mark.parametrize('verb', ['run', 'delete'])
def test_a_kill_before_any_system_call_leaves_nothing_for_delete(shared, verb):
    shared.shell(f'sleep 1000; : {shared.id}').save()
    test_kill.get_ready(shared, verb)
    calls, code = run_to(test_kill.command_of(shared, verb), None)
    assert code == 0
    for number in range(1, calls + 1, test_kill.STEP):
        test_kill.clear(shared, number)
        test_kill.get_ready(shared, verb)
        run_to(test_kill.command_of(shared, verb), number)
    test_kill.clear(shared, calls)


@pytest.mark.berth
def test_what_another_mounted_on_it_stays(shared):
    shared.up()
    os.system(f'mount -t tmpfs others {shared.rootfs}')
    try:
        assert shared.call('delete', '--force', shared.id).returncode == 0
        assert str(shared.rootfs) in mounts_below(shared.path)
    finally:
        os.system(f'umount {shared.rootfs}; umount -l {shared.rootfs}')


@pytest.mark.berth
def test_a_user_namespace_needs_a_mount_namespace(shared):
    done = shared.users().args('true').run()
    assert done.returncode != 0
    assert 'a user namespace without a mount namespace' in done.stderr


@pytest.mark.berth
def test_mounts_of_a_shared_place_are_not_others(shared):
    """Below a mount that others hear of, they hear of the rootfs, and of its end."""
    os.system(f'mount --bind {shared.path} {shared.path} && mount --make-shared {shared.path}')
    try:
        shared.up()
        assert not any(' shared:' in line for line in open('/proc/self/mountinfo') if str(shared.rootfs) in line)
        assert shared.call('delete', '--force', shared.id).returncode == 0
        assert mounts_below(shared.path) == [str(shared.path)]
    finally:
        os.system(f'umount {shared.path}')


def test_what_is_mounted_in_the_rootfs_is_in_the_container(bundle):
    os.system(f'mount -t tmpfs inside {bundle.rootfs}/var && touch {bundle.rootfs}/var/file')
    try:
        assert bundle.output('ls /var') == 'file'
    finally:
        os.system(f'umount {bundle.rootfs}/var')
