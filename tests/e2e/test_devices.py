"""docker run --device and what belongs to it: nodes, rights, rates, and --privileged."""
import os
import re
import stat

import pytest

CONTAINER = pytest.mark.container_only('HostConfig.Devices')
TRY = 'cat {} 2>&1'
DEVICE = '/dev/loop-control'  # 10:237
ALLOWED = 'Invalid argument'  # says the device itself of a read
needs_device = pytest.mark.skipif(not os.path.exists(DEVICE), reason=f'this host has no {DEVICE}')
EVERY = pytest.mark.differs('has no capability less than all, which these machines lack')


def a_block_device():
    for name in sorted(os.listdir('/dev')):
        if stat.S_ISBLK(os.lstat('/dev/' + name).st_mode):
            return '/dev/' + name
    pytest.skip('this host has no block device')


@needs_device
@CONTAINER
def test_a_device_of_the_host(docker):
    assert 'No such file' in docker('run', '--rm', 'bb', 'cat', DEVICE).err
    assert ALLOWED in docker.ok('run', '--rm', '--device', DEVICE, 'bb', 'sh', '-c', TRY.format(DEVICE) + '; true')
    mode = oct(os.stat(DEVICE).st_mode & 0o777)[2:]
    assert docker.ok('run', '--rm', '--device', DEVICE, 'bb', 'stat', '-c', '%F %a %t:%T', DEVICE) == f'character special file {mode} a:ed'


@needs_device
@CONTAINER
def test_a_device_by_another_name(docker):
    out = docker.ok('run', '--rm', '--device', DEVICE + ':/dev/deep/other', 'bb', 'sh', '-c', TRY.format('/dev/deep/other') + '; ls /dev')
    assert ALLOWED in out and 'loop-control' not in out
    mapping = docker.ok('create', '--device', DEVICE + ':/dev/other:r', 'bb')
    assert docker.inspect(mapping)['HostConfig']['Devices'] == [
        {'PathOnHost': DEVICE, 'PathInContainer': '/dev/other', 'CgroupPermissions': 'r'}]


@needs_device
@CONTAINER
def test_rights_are_kept(docker):
    script = 'echo x >/dev/t; cat /dev/t'
    assert 'not permitted' in docker('run', '--rm', '--device', DEVICE + ':/dev/t:r', 'bb', 'sh', '-c', script).err
    assert 'not permitted' in docker('run', '--rm', 'bb', 'sh', '-c', 'mknod /dev/t c 10 237; cat /dev/t').err


@needs_device
@pytest.mark.container_only('HostConfig.DeviceCgroupRules')
def test_a_rule_without_a_node(docker):
    script = 'mknod /dev/t c 10 237; ' + TRY.format('/dev/t') + '; true'
    assert ALLOWED in docker.ok('run', '--rm', '--device-cgroup-rule', 'c 10:237 rwm', 'bb', 'sh', '-c', script)
    assert ALLOWED in docker.ok('run', '--rm', '--device-cgroup-rule', 'c *:* rwm', 'bb', 'sh', '-c', script)
    assert 'not permitted' in docker.ok('run', '--rm', '--device-cgroup-rule', 'c 10:238 rwm', 'bb', 'sh', '-c', script)


@CONTAINER
def test_a_folder_of_devices(docker):
    assert docker.ok('run', '--rm', '--device', '/dev/net:/dev/folder', 'bb', 'ls', '/dev/folder').split() == sorted(os.listdir('/dev/net'))


@CONTAINER
def test_what_is_no_device(docker, api):
    for path, message in [('/dev/nosuch', 'no such file or directory'), ('/etc/passwd', 'not a device node|no such file or directory')]:
        result = docker('run', '--rm', '--device', path, 'bb', 'true')
        assert result.code >= 125 and re.search(message, result.err.lower())
        assert f'error gathering device information while adding custom device "{path}"' in result.err
    for rule in ('c 10:200', 'x 1:1 rwm', 'c 1:1 rwx', 'c a:1 r'):
        answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'DeviceCgroupRules': [rule]}})
        if answer.status == 201:  # dockerd finds it at the start
            answer = api.post(f'/containers/{answer.json["Id"]}/start')
        assert answer.status >= 400 and 'invalid device cgroup rule format' in answer.message


@pytest.mark.container_only('HostConfig.Devices')
def test_rates_of_a_block_device(docker):
    device = a_block_device()
    number = f'{os.major(os.stat(device).st_rdev)}:{os.minor(os.stat(device).st_rdev)}'
    if not os.path.exists('/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device'):
        pytest.skip('where these stand on cgroup v2 is tests/unit/kernel')
    out = docker.ok('run', '--rm', '--device-read-bps', device + ':1mb', '--device-write-bps', device + ':2mb', '--device-read-iops',
                    device + ':30', '--device-write-iops', device + ':40', 'bb', 'sh', '-c',
                    'cd /sys/fs/cgroup/blkio; cat blkio.throttle.read_bps_device blkio.throttle.write_bps_device '
                    'blkio.throttle.read_iops_device blkio.throttle.write_iops_device')
    assert out.split('\n') == [f'{number} 1048576', f'{number} 2097152', f'{number} 30', f'{number} 40']
    assert 'no such file' in docker('run', '--rm', '--device-read-bps', '/dev/nosuch:1mb', 'bb', 'true').err.lower()


@pytest.mark.berth
def test_gpus_are_refused(docker):
    result = docker('run', '--rm', '--gpus', 'all', 'bb', 'true')
    assert result.code == 125 and 'could not select device driver' in result.err
    assert docker.ok('ps', '-aq') == ''


@EVERY
@CONTAINER
def test_privileged_has_the_machine(docker, name):
    out = docker.ok('run', '--rm', '--privileged', 'bb', 'sh', '-c',
                    'grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; ls /dev/kmsg; '
                    'mkdir /m && mount -t tmpfs none /m && echo mounted; echo x >/sys/kernel/profiling 2>/dev/null; '
                    'touch /sys/fs/cgroup/x 2>&1; grep " /sys " /proc/mounts').split('\n')
    assert '/dev/kmsg' in out and 'mounted' in out and 'Seccomp:\t0' in out
    assert any(line.startswith('sysfs /sys sysfs rw') for line in out), out
    host = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('CapBnd'))
    assert f'CapEff:\t{host}' in out


@EVERY
@CONTAINER
def test_a_privileged_exec(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    assert docker('exec', name, 'sh', '-c', 'mkdir /m; mount -t tmpfs none /m').code != 0
    out = docker.ok('exec', '--privileged', name, 'grep', 'CapEff', '/proc/self/status')
    host = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('CapBnd'))
    assert out == f'CapEff:\t{host}'
