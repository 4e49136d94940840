"""Devices by the names of the Container Device Interface."""
import json
import os

import pytest

import engines
from conftest import Docker

pytestmark = [pytest.mark.berth, pytest.mark.container_only('HostConfig.DeviceRequests')]

SPEC = {'cdiVersion': '0.6.0', 'kind': 'example.com/toy', 'containerEdits': {'env': ['TOY=all']}, 'devices': [
    {'name': 'zero', 'containerEdits': {
        'env': ['ZERO=1'], 'deviceNodes': [{'path': '/dev/toy0', 'hostPath': '/dev/zero', 'permissions': 'r', 'fileMode': 0o640, 'gid': 77}],
        'mounts': [{'hostPath': '/etc/passwd', 'containerPath': '/toy/name', 'options': ['ro', 'nosuid', 'bind']}], 'additionalGids': [77]}},
    {'name': 'plain', 'containerEdits': {'env': ['TOY=plain']}},
    {'name': 'failing', 'containerEdits': {'hooks': [{'hookName': 'createContainer', 'path': '/bin/sh', 'args': ['sh', '-c', 'echo no such toy >&2; exit 3']}]}},
    {'name': 'odd', 'containerEdits': {'hooks': [{'hookName': 'sometimes', 'path': '/bin/true'}]}},
    {'name': 'net', 'containerEdits': {'netDevices': [{'hostInterfaceName': 'eth9', 'name': 'x'}]}},
]}
YAML = """---
cdiVersion: "0.5.0"
kind: example.com/other
devices:
- name: "one"     # a comment
  containerEdits:
    env: [ONE=yes]
    deviceNodes:
      - path: /dev/null2
        hostPath: /dev/null
"""


HOOKS = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop']


def hook(when, folder):
    """Writes down when it ran, with what it was told and what it sees; createContainer leaves a file in the root, as vendors' hooks do."""
    more = {'createContainer': f'root=$(tr -d " " <{folder}/config | grep -o \'"root":{{"path":"[^"]*\' | cut -d\\" -f6); readlink /proc/self/ns/mnt >{folder}/namespace; '
                               'grep -q " $root/dev/shm " /proc/self/mounts && echo "$WHO" >$root/made-by-a-hook; ',
            'startContainer': 'cat >/started-with; '}.get(when, '')
    if when == 'startContainer':  # in the container: its path is the image's
        return {'hookName': when, 'path': '/bin/sh', 'args': ['sh', '-c', more]}
    bundle = f'state=$(cat); echo "$state" >{folder}/state.{when}; b=$(echo "$state" | grep -o \'"bundle":"[^"]*\' | cut -d\\" -f4); cp $b/config.json {folder}/config; '
    return {'hookName': when, 'path': '/bin/sh', 'args': ['sh', '-c', bundle + more + f'echo {when} >>{folder}/order'], 'env': ['WHO=me', 'PATH=/bin:/usr/bin'], 'timeout': 20}


@pytest.fixture(scope='module')
def cdi(tmp_path_factory, busybox):
    """A client of a daemon that knows these devices; .folder is where they are described."""
    folder = tmp_path_factory.mktemp('cdi')
    (folder / 'toy.json').write_text(json.dumps(SPEC))
    (folder / 'other.yaml').write_text(YAML)
    (folder / 'broken.json').write_text('{"kind":')
    (folder / 'hooks.json').write_text(json.dumps({'cdiVersion': '0.8.0', 'kind': 'example.com/hooked', 'devices': [
        {'name': 'all', 'containerEdits': {'hooks': [hook(when, folder) for when in HOOKS]}}]}))
    engine = engines.Berth()
    own = engine.command
    engine.command = lambda: [*own(), '--cdi-spec-dir', str(folder)]
    engine.start()
    client = Docker(engine, engines.default_cli(), str(tmp_path_factory.mktemp('client')))
    client.ok('load', input=busybox)
    client.folder_of_hooks = folder
    yield client
    assert engine.stop_all().returncode == 0
    engine.remove_folder()


@pytest.mark.new_client('--device takes paths alone')
def test_a_device_is_what_its_file_says(cdi):
    said = cdi.ok('run', '--rm', '-u', '1', '--device', 'example.com/toy=zero', 'bb', 'sh', '-c',
                  'echo $TOY $ZERO; stat -c "%a %g %F" /dev/toy0; head -c 2 /dev/toy0 | wc -c; echo x 2>/dev/null >/dev/toy0 || echo read-only; '
                  'head -n 1 /toy/name; id -G; grep " /toy/name " /proc/mounts')
    lines = said.splitlines()
    assert lines[:4] == ['all 1', '640 77 character special file', '2', 'read-only']
    assert lines[4] == open('/etc/passwd').readline().strip() and '77' in lines[5].split()
    assert 'ro' in lines[6].split()[3].split(',') and 'nosuid' in lines[6]


@pytest.mark.new_client('--device takes paths alone')
def test_several_and_yaml(cdi, name):
    cdi.ok('run', '-d', '--name', name, '--device', 'example.com/toy=plain', '--device', 'example.com/other=one', 'bb', 'sleep', '100')
    assert cdi.ok('exec', name, 'sh', '-c', 'tr "\\0" "\\n" </proc/1/environ | grep -E "^(TOY|ONE)"; ls /dev/null2').split() == \
        ['TOY=plain', 'ONE=yes', '/dev/null2']
    requests = cdi.inspect(name)['HostConfig']['DeviceRequests']
    assert [(one['Driver'], one['DeviceIDs']) for one in requests] == [('cdi', ['example.com/toy=plain', 'example.com/other=one'])]
    cdi.ok('restart', '-t', '0', name)
    cdi.ok('rm', '-f', name)


@pytest.mark.new_client('--device takes paths alone')
def test_hooks_run_at_their_moments(cdi, name):
    folder = cdi.folder_of_hooks

    def ran():
        return (folder / 'order').read_text().split() if (folder / 'order').exists() else []
    cdi.ok('create', '--name', name, '--device', 'example.com/hooked=all', '-t', 'bb', 'sleep', '1000')
    assert not ran()
    cdi.ok('start', name)
    assert ran() == ['prestart', 'createRuntime', 'createContainer', 'poststart']
    states = {when: json.loads((folder / f'state.{when}').read_text()) for when in ran()}
    container = cdi.inspect(name)
    assert {when: state['status'] for when, state in states.items()} == \
        {'prestart': 'creating', 'createRuntime': 'creating', 'createContainer': 'creating', 'poststart': 'running'}
    assert {state['id'] for state in states.values()} == {container['Id']}
    assert states['createRuntime']['pid'] == states['poststart']['pid'] == container['State']['Pid']
    assert (folder / 'namespace').read_text().strip() == os.readlink(f'/proc/{container["State"]["Pid"]}/ns/mnt')
    assert cdi.ok('exec', name, 'cat', '/made-by-a-hook') == 'me'
    assert json.loads(cdi.ok('exec', name, 'cat', '/started-with'))['status'] == 'created'
    assert cdi.ok('exec', name, 'sh', '-c', 'ls /; cat /proc/1/mounts; tty </dev/console').count('bundle') == 0  # nothing of the host's is left
    cdi.ok('rm', '-f', name)
    assert ran()[4:] == ['poststop'] and json.loads((folder / 'state.poststop').read_text())['status'] == 'stopped'


@pytest.mark.new_client('--device takes paths alone')
def test_a_hook_that_fails(cdi):
    refused = cdi('run', '--rm', '--device', 'example.com/toy=failing', 'bb', 'true')
    assert refused.code in (125, 127, 128) and 'createContainer hook #0' in refused.err and 'no such toy' in refused.err
    assert not cdi.ok('ps', '-aq')


@pytest.mark.new_client('--device takes paths alone')
def test_what_there_is_not(cdi, api):
    refused = cdi('run', '--rm', '--device', 'example.com/toy=nosuch', 'bb', 'true')
    assert refused.code == 125 and 'CDI device injection failed: unresolvable CDI devices example.com/toy=nosuch' in refused.err
    assert 'broken.json' in refused.err and len(refused.err.strip().splitlines()) <= 3
    refused = cdi('run', '--rm', '--device', 'example.com/toy=net', 'bb', 'true')
    assert refused.code == 125 and 'netDevices are not supported yet' in refused.err
    refused = cdi('run', '--rm', '--device', 'example.com/toy=odd', 'bb', 'true')
    assert refused.code == 125 and 'unknown hook sometimes' in refused.err
    refused = cdi('run', '--rm', '--gpus', 'all', 'bb', 'true')
    assert refused.code == 125 and 'could not select device driver "" with capabilities: [[gpu]]' in refused.err
    assert os.path.basename(cdi.ok('info', '--format', '{{index .CDISpecDirs 0}}')).startswith('cdi')
    answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'DeviceRequests': [{'Driver': 'cdi', 'DeviceIDs': ['x']}]}})
    assert answer.status == 400 and '"x" is no CDI device' in answer.message
    assert not cdi.ok('ps', '-aq')
