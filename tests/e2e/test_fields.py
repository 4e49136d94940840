"""Every field of a create body that the published API names, with a value: it is honoured and shown again, or harmless, or refused by its
path. Nothing is swallowed."""
import os

import pytest

import isolation
from engines import ROOT, read

pytestmark = pytest.mark.berth

ENDPOINT = 'NetworkingConfig.EndpointsConfig.bridge.'
PAGE = read(os.path.join(ROOT, 'docs/compatibility.md')) + (read(os.path.join(ROOT, 'docs/isolation.md')) if isolation.VM else '')

VALUES = {
    'Hostname': 'box', 'Domainname': 'example.org', 'User': '1:1', 'AttachStdin': True, 'AttachStdout': True, 'AttachStderr': True,
    'ExposedPorts': {'80/tcp': {}}, 'Tty': True, 'OpenStdin': True, 'StdinOnce': True, 'Env': ['A=b'], 'Cmd': ['true'],
    'Healthcheck': {'Test': ['CMD', 'true'], 'Interval': 1000000000, 'Timeout': 1000000000, 'Retries': 3, 'StartPeriod': 1000000000,
                    'StartInterval': 1000000000},
    'ArgsEscaped': True, 'Image': 'bb', 'Volumes': {'/data': {}}, 'WorkingDir': '/tmp', 'Entrypoint': ['/bin/sh'], 'NetworkDisabled': True,
    'MacAddress': '02:42:ac:11:00:05', 'OnBuild': ['RUN true'], 'Labels': {'a': 'b'}, 'StopSignal': 'SIGINT', 'StopTimeout': 3,
    'Shell': ['/bin/sh', '-c'],
}
HOST_VALUES = {
    'CpuShares': 512, 'Memory': 64 << 20, 'CgroupParent': '/x', 'BlkioWeight': 300, 'BlkioWeightDevice': [{'Path': '/dev/null', 'Weight': 300}],
    'BlkioDeviceReadBps': [{'Path': '/dev/null', 'Rate': 1000}], 'BlkioDeviceWriteBps': [{'Path': '/dev/null', 'Rate': 1000}],
    'BlkioDeviceReadIOps': [{'Path': '/dev/null', 'Rate': 1000}], 'BlkioDeviceWriteIOps': [{'Path': '/dev/null', 'Rate': 1000}],
    'CpuPeriod': 50000, 'CpuQuota': 25000, 'CpuRealtimePeriod': 1000000, 'CpuRealtimeRuntime': 1000, 'CpusetCpus': '0', 'CpusetMems': '0',
    'Devices': [{'PathOnHost': '/dev/zero', 'PathInContainer': '/dev/zero2', 'CgroupPermissions': 'rwm'}], 'DeviceCgroupRules': ['c 1:3 rwm'],
    'DeviceRequests': [{'Driver': 'nvidia', 'Count': 1, 'Capabilities': [['gpu']]}], 'KernelMemoryTCP': 1 << 20, 'MemoryReservation': 32 << 20,
    'MemorySwap': 128 << 20, 'MemorySwappiness': 10, 'NanoCpus': 500000000, 'OomKillDisable': True, 'Init': True, 'PidsLimit': 100,
    'Ulimits': [{'Name': 'nofile', 'Soft': 100, 'Hard': 200}], 'CpuCount': 1, 'CpuPercent': 10, 'IOMaximumIOps': 10, 'IOMaximumBandwidth': 1000,
    'Binds': ['/tmp:/host'], 'ContainerIDFile': '/tmp/cid', 'LogConfig': {'Type': 'none', 'Config': {}}, 'NetworkMode': 'none',
    'PortBindings': {'80/tcp': [{'HostIp': '127.0.0.1', 'HostPort': '0'}]}, 'RestartPolicy': {'Name': 'on-failure', 'MaximumRetryCount': 2},
    'AutoRemove': True, 'VolumeDriver': 'nosuch', 'VolumesFrom': ['nosuch'], 'Mounts': [{'Type': 'tmpfs', 'Target': '/t'}], 'ConsoleSize': [10, 20],
    'Annotations': {'a': 'b'}, 'CapAdd': ['CAP_NET_ADMIN'], 'CapDrop': ['CAP_CHOWN'], 'CgroupnsMode': 'host', 'Dns': ['10.0.0.1'],
    'DnsOptions': ['ndots:3'], 'DnsSearch': ['example.org'], 'ExtraHosts': ['a:10.0.0.2'], 'GroupAdd': ['10'], 'IpcMode': 'host', 'Cgroup': 'x',
    'Links': ['nosuch:alias'], 'OomScoreAdj': 100, 'PidMode': 'host', 'Privileged': True, 'PublishAllPorts': True, 'ReadonlyRootfs': True,
    'SecurityOpt': ['no-new-privileges'], 'StorageOpt': {'size': '1g'}, 'Tmpfs': {'/t2': 'size=1m'}, 'UTSMode': 'host', 'UsernsMode': 'host',
    'ShmSize': 1 << 20, 'Sysctls': {'net.ipv4.ip_forward': '1'}, 'Runtime': 'runc', 'Isolation': 'container', 'MaskedPaths': ['/proc/kcore'],
    'ReadonlyPaths': ['/proc/sys'],
}
ENDPOINT_VALUES = {
    'IPAMConfig': {'IPv4Address': '172.17.0.100'}, 'Links': ['nosuch:alias'], 'MacAddress': '02:42:ac:11:00:06', 'Aliases': ['other'],
    'DriverOpts': {'a': 'b'}, 'GwPriority': 5, 'NetworkID': 'x', 'EndpointID': 'x', 'Gateway': '10.0.0.1', 'IPAddress': '10.0.0.3', 'IPPrefixLen': 24,
    'IPv6Gateway': 'fe80::1', 'GlobalIPv6Address': 'fd00::2', 'GlobalIPv6PrefixLen': 64, 'DNSNames': ['x'],
}
ALL = {**VALUES, **{'HostConfig.' + key: value for key, value in HOST_VALUES.items()},
       **{ENDPOINT + key: value for key, value in ENDPOINT_VALUES.items()}}

# Read by nobody, in Docker's engine neither: another system's, the client's own, or what an inspect answered and a client sends back.
HARMLESS = {'ArgsEscaped', 'HostConfig.ContainerIDFile', *(ENDPOINT + key for key in (
    'NetworkID', 'EndpointID', 'Gateway', 'IPAddress', 'IPPrefixLen', 'IPv6Gateway', 'GlobalIPv6Address', 'GlobalIPv6PrefixLen', 'DNSNames'))}
# Honoured, and seen at work by other tests: what is shown of them is not what was said.
SEEN_ELSEWHERE = {'NetworkDisabled', ENDPOINT + 'MacAddress', ENDPOINT + 'Aliases', ENDPOINT + 'IPAMConfig', ENDPOINT + 'GwPriority', 'MacAddress'}

NEEDS = {'HostConfig.MemorySwap': {'Memory': 64 << 20}}  # says something beside these alone


def test_every_field_is_tried():
    names = [line.strip() for line in open(os.path.join(os.path.dirname(__file__), 'data/fields.txt')) if not line.startswith('#')]
    assert sorted(names) == sorted(ALL)


def body_with(path, value):
    body = {'Image': 'bb', 'Cmd': ['true']}
    at = body
    *parents, last = path.split('.')
    for key in parents:
        at = at.setdefault(key, {})
    at[last] = value
    for key, other in NEEDS.get(path, {}).items():
        at[key] = other
    return body


def look(document, path):
    for key in path.split('.'):
        document = document.get(key) if isinstance(document, dict) else None
    return document


@pytest.mark.parametrize('path', ALL)
def test_a_field(api, docker, path):
    before = docker.ok('ps', '-aq')
    answer = api.post('/containers/create', body_with(path, ALL[path]))
    if answer.status == 201:
        last = path.split('.')[-1]
        assert not [line for line in answer.json['Warnings'] if f'{last} ignored' in line], answer
        if path in HARMLESS | SEEN_ELSEWHERE:
            return
        shown = docker.inspect(answer.json['Id'])
        if path == 'Env':
            assert shown['Config']['Env'][0] == 'A=b'  # the image's follow
            return
        assert look(shown if path.startswith('HostConfig') else shown['Config'], path) == ALL[path]
        return
    # Refused by name, or told what is wrong with what the value names.
    assert answer.status == 501 and path.split('.')[-1] in answer.message or path in MAY_BE_WRONG and answer.status in (400, 404, 409), answer
    assert answer.message.count('\n') == 0
    assert docker.ok('ps', '-aq') == before
    if answer.status == 501:
        assert f"`{path.split('.')[-1]}`" in PAGE or f".{path.split('.')[-1]}`" in PAGE, f'docs/compatibility.md says nothing about {path}; nor does docs/isolation.md of what a machine refuses'


# What this host or this daemon can't be asked for, said with another status than 501.
MAY_BE_WRONG = {'HostConfig.VolumesFrom', 'HostConfig.Links', 'HostConfig.VolumeDriver', 'HostConfig.DeviceRequests', ENDPOINT + 'IPAMConfig', ENDPOINT + 'Aliases',
                ENDPOINT + 'Links', 'HostConfig.CpuRealtimePeriod', 'HostConfig.CpuRealtimeRuntime', 'HostConfig.CgroupParent'}
