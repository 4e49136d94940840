"""What a walk over the client's commands beside dockerd 28 (tools/walk) found different once: words, fields and kept things, in few containers."""
import io
import json
import os
import subprocess
import tarfile

import pytest

CREATE = '/containers/create'


@pytest.fixture
def running(docker, name):
    docker.ok('run', '-d', '--name', name, '-v', name + 'v:/ro:ro', '-v', name + 'v:/plain', '-v', '/anon', '--mac-address', '02:42:ac:11:00:77',
              '--pids-limit', '-1', 'bb', 'sleep', '1000')
    yield name
    docker('rm', '-fv', name)
    docker('volume', 'rm', name + 'v')


@pytest.mark.differs('mounts a volume at one place')
@pytest.mark.container_only('HostConfig.Binds')
def test_what_an_inspect_says(docker, running):
    shown = docker.inspect(running)
    assert {mount['Destination']: (mount['Mode'], mount['RW']) for mount in shown['Mounts']} == {'/ro': ('ro', False), '/plain': ('z', True), '/anon': ('', True)}
    assert shown['Config']['MacAddress'] == '02:42:ac:11:00:77' and shown['HostConfig']['PidsLimit'] is None


@pytest.mark.berth
@pytest.mark.container_only('HostConfig.Binds')
def test_the_key_of_a_sandbox_is_its_network(docker, running):
    shown = docker.inspect(running)
    key = shown['NetworkSettings']['SandboxKey']
    assert os.readlink(key) == os.readlink(f'/proc/{shown["State"]["Pid"]}/ns/net') != os.readlink('/proc/self/ns/net')


@pytest.mark.container_only('HostConfig.Binds')
@pytest.mark.differs('has other words')
def test_words_of_states(docker, api, running):
    name = running
    id = docker.inspect(name)['Id']
    assert api.post(f'/containers/{name}/unpause').message == f'Container {id} is not paused'
    assert api.post(f'/containers/{name}/kill?signal=99').message == f'cannot kill container: {name}: the linux daemon does not support signal 99'
    assert api.post(f'/containers/{name}/restart?signal=NOSUCH').message == f'Cannot restart container {name}: invalid signal: NOSUCH'
    assert api.delete(f'/containers/{name}').message.startswith(f'cannot remove container "{name}": container is running')
    assert api.post(f'/containers/{name}/resize?h=x&w=1').message.startswith('invalid resize height "x": ')
    assert api.post(f'/containers/{name}/exec', {'Cmd': ['true'], 'DetachKeys': 'junk,,'}).message == 'Invalid escape keys (junk,,) provided'
    docker.ok('pause', name)
    assert api.post(f'/containers/{name}/pause').message == f'Container {id} is already paused'
    assert api.post(f'/containers/{name}/exec', {'Cmd': ['true']}).message == f'Container {name} is paused, unpause the container before exec'
    docker.ok('unpause', name)
    exec_id = api.post(f'/containers/{name}/exec', {'Cmd': ['sleep', '1000']}).json['Id']
    assert api.post(f'/exec/{exec_id}/start', {'Detach': True}).status == 200
    assert api.post(f'/exec/{exec_id}/start', {'Detach': True}).message == f'exec command {exec_id} is already running'


@pytest.mark.differs('has other words')
@pytest.mark.parametrize('host, words', [
    ({'Mounts': [{'Type': 'nosuch', 'Target': '/a'}]}, 'invalid mount config for type "nosuch": mount type unknown'),
    ({'Mounts': [{'Type': 'tmpfs', 'Target': 'rel'}]}, 'invalid mount config for type "tmpfs": invalid mount path: \'rel\' mount path must be absolute'),
    ({'Mounts': [{'Type': 'tmpfs', 'Target': '/'}]}, 'invalid mount config for type "tmpfs": invalid specification: destination can\'t be \'/\''),
    ({'Binds': ['/tmp:rel']}, 'invalid volume specification: \'/tmp:rel\': invalid mount config for type "bind": '
                              'invalid mount path: \'rel\' mount path must be absolute'),
], ids=['type', 'relative', 'root', 'bind'])
@pytest.mark.container_only('HostConfig.Binds')
def test_words_of_mounts(api, host, words):
    answer = api.post(CREATE, {'Image': 'bb', 'HostConfig': host})
    assert answer.status in (400, 500) and answer.message == words  # dockerd takes some for its own fault


def test_a_prune_keeps_volumes_with_options(docker, api, name):
    docker.needs((1, 42), 'has no --all')
    docker.ok('volume', 'create', '--label', name, '-o', 'type=tmpfs', '-o', 'device=tmpfs', name)
    assert name not in docker.ok('volume', 'prune', '-af', '--filter', f'label={name}')
    docker.ok('volume', 'rm', name)


@pytest.mark.differs('has no such label')
def test_nobody_named_it(docker):
    volume = docker.ok('volume', 'create')
    assert volume in docker.ok('volume', 'ls', '-q', '-f', 'label=com.docker.volume.anonymous')
    docker.ok('volume', 'rm', volume)


@pytest.mark.differs('does not look at it')
def test_what_a_network_is_asked_by(api):
    assert api.get('/networks/bridge?verbose=junk').status == 400
    assert api.get('/networks/bridge?scope=swarm').status == 404 and api.get('/networks/bridge?scope=local&verbose=true').status == 200
    host = api.get('/networks/host').json
    assert host['EnableIPv4'] is True and host['IPAM']['Config'] is None


@pytest.mark.container_only('HostConfig.Devices')
@pytest.mark.differs('has no such option, and its own list of devices')
def test_what_a_container_finds(docker, name):
    """The mark by which programs know where they are, names in tables, tunnels, groups of its own."""
    see = 'ls -l /.dockerenv | cut -c1-10; grep -c "^shm /dev/shm" /proc/mounts; mknod /tun c 10 200 && head -c0 /tun 2>&1; echo "end"'
    said = docker.ok('run', '--name', name, 'bb', 'sh', '-c', see).splitlines()
    assert said[:2] == ['-rwxr-xr-x', '1'] and said[-1] == 'end' and 'not permitted' not in ''.join(said)
    assert docker.ok('diff', name).split() == ['A', '/tun']
    groups = 'd=/sys/fs/cgroup/memory; [ -d $d ] || d=/sys/fs/cgroup; mkdir $d/inner && rmdir $d/inner && echo made'
    assert docker.ok('run', '--rm', '--security-opt', 'writable-cgroups=true', 'bb', 'sh', '-c', groups) == 'made'
    assert docker.ok('run', '--rm', '--security-opt', 'writable-cgroups=false', 'bb', 'sh', '-c', groups + ' 2>/dev/null; echo none') == 'none'


@pytest.mark.differs('has other words')
def test_words_of_security_options(api):
    for option, number in ('nosuch=x', 2), ('nosuch', 1), ('no-new-privileges=junk', 2), ('writable-cgroups=junk', 2):
        answer = api.post(CREATE, {'Image': 'bb', 'HostConfig': {'SecurityOpt': [option]}})
        assert answer.status in (400, 500) and answer.message == f'invalid --security-opt {number}: "{option}"'


def test_an_auxiliary_address_is_nobodys(docker, name):
    docker.ok('network', 'create', '--subnet', '10.177.0.0/24', '--aux-address', 'x=10.177.0.9', name)
    done = docker('run', '--rm', '--network', name, '--ip', '10.177.0.9', 'bb', 'true')
    docker.ok('network', 'rm', name)
    assert done.code == 125 and 'Address already in use' in done.err


@pytest.mark.differs('answers an exec of it with 126')
def test_an_empty_command(docker, name):
    for words in ('run', '--name', name), ('exec', name + 'c'):
        if words[0] == 'exec':
            docker.ok('run', '-d', '--name', name + 'c', 'bb', 'sleep', '1000')
        done = docker(*words, *(['bb'] if words[0] == 'run' else []), '')
        assert done.code == 127 and 'exec: "": executable file not found in $PATH' in done.out + done.err, done


@pytest.mark.differs('has other words')
@pytest.mark.parametrize('body, status, words', [
    ({'StopTimeout': 'x'}, 400, 'StopTimeout'), ({'HostConfig': {'Init': 'x'}}, 400, 'Init'),
    ({'HostConfig': {'CapAdd': ['nosuch']}}, 400, 'invalid CapAdd: unknown capability: "CAP_NOSUCH"'),
    ({'HostConfig': {'Annotations': {'': 'x'}}}, 400, 'invalid Annotations: '),
    ({'HostConfig': {'VolumesFrom': ['nosuch']}}, 400, 'No such container: nosuch'),
    ({'HostConfig': {'Mounts': [{'Type': 'tmpfs', 'Target': '/x', 'BindOptions': {}}]}}, 400, 'BindOptions must not be specified on mount type "tmpfs"'),
], ids=['timeout', 'init', 'capability', 'annotation', 'volumes-from', 'options'])
@pytest.mark.container_only('HostConfig.VolumesFrom')
def test_values_of_another_kind(api, body, status, words):
    answer = api.post(CREATE, {'Image': 'bb', **body})
    assert answer.status == status and words in answer.message, answer


@pytest.mark.differs('has other words, and looks at no platform')
def test_images_by_wrong_names(docker, api, name):
    docker.ok('create', '--name', name, 'bb')
    for line in (['tag', 'bb', 'sha256:abc'], ['commit', name, 'sha256:abc']):
        done = docker(*line)
        assert done.code == 1 and 'refusing to create an ambiguous tag using digest algorithm as name' in done.err
    answer = api.post('/images/bb/push?tag=latest&platform=%7B%22os%22%3A%22linux%22%2C%22architecture%22%3A%22arm64%22%7D', headers={'X-Registry-Auth': 'e30='})
    assert answer.status == 404 and 'bb:latest was found but its platform (linux/amd64) does not match' in answer.message


@pytest.mark.differs('knows no filter label')
def test_a_prune_by_label_spares_the_cache(api):
    answer = api.post('/build/prune?filters=%7B%22label%22%3A%5B%22x%22%5D%7D')
    assert answer.status == 200 and answer.json == {'CachesDeleted': None, 'SpaceReclaimed': 0}


@pytest.mark.differs('has other words')
def test_words_of_filters(docker):
    for line, words in (
        ('ps -f status=nosuch', "invalid filter 'status=nosuch': invalid value for state (nosuch): must be one of created, running, paused, restarting, removing, "
                                'exited, dead'),
        ('ps -f health=nosuch', "invalid filter 'health=nosuch': invalid value for health (nosuch): must be one of none, starting, healthy, unhealthy"),
        ('ps -f exited=junk', "invalid filter 'exited=junk': strconv.Atoi: parsing \"junk\": invalid syntax"),
        ('ps -f is-task=junk', "invalid filter 'is-task=[junk]'"), ('images -f dangling=junk', "invalid filter 'dangling=[junk]'"),
        ('images -f until=junk', 'failed to parse value as time or duration: "junk"'),
    ):
        done = docker(*line.split())
        assert done.code == 1 and done.err == f'Error response from daemon: {words}\n'


def test_all_keys_of_blkio_stats(docker, api, name):
    docker.ok('create', '--name', name, 'bb')
    kinds = {'io_service_bytes', 'io_serviced', 'io_queue', 'io_service_time', 'io_wait_time', 'io_merged', 'io_time', 'sectors'}
    assert {kind + '_recursive' for kind in kinds} <= set(api.get(f'/containers/{name}/stats?stream=0&one-shot=1').json['blkio_stats'])


@pytest.mark.differs('knows no shared-size')
def test_what_a_list_of_images_is_asked_for(docker, api, name):
    docker.ok('create', '--name', name, 'bb')
    docker.ok('commit', name, name)
    rows = {tag: row for row in api.get('/v1.43/images/json?shared-size=1').json for tag in row['RepoTags']}
    assert rows[name + ':latest']['SharedSize'] == rows['bb:latest']['SharedSize'] == rows['bb:latest']['Size']
    assert {row['SharedSize'] for row in api.get('/v1.43/images/json').json} == {-1}
    for pattern in '[', 'a[b', 'a\\':
        done = docker('images', '-f', 'reference=' + pattern)
        assert done.code == 1 and done.err == 'Error response from daemon: syntax error in pattern\n'
    docker.ok('images', '-f', 'reference=b[ab]')
    docker.ok('rmi', name)


@pytest.mark.container_only('HostConfig.Binds')  # a guest's files are out of sight: it says so at the start
@pytest.mark.differs('looks the user up at the start')
def test_an_exec_as_nobody_known_is_none(docker, api, keeper, name):
    box = keeper.box(name)
    for user, words in (('nosuch', 'unable to find user nosuch: no matching entries in passwd file'), ('0:nosuch', 'unable to find group nosuch: no matching entries in group file'),
                        ('-5', 'uids and gids must be in range 0-2147483647')):
        answer = api.post(f'/containers/{box}/exec', {'Cmd': ['true'], 'User': user})
        assert (answer.status, answer.message) == (400, words)
    done = docker('exec', '-u', 'nosuch', box, 'true')
    assert (done.code, done.err) == (1, 'Error response from daemon: unable to find user nosuch: no matching entries in passwd file\n')


@pytest.mark.differs('answers 126')
def test_exit_codes_of_folders_that_are_none(docker, keeper, name):
    box = keeper.box(name)
    done = docker('exec', '-w', 'rel', box, 'true')
    assert (done.code, (done.out + done.err).strip()) == (128, 'OCI runtime exec failed: exec failed: Cwd must be an absolute path')
    assert docker('exec', '-w', '/nosuch', box, 'true').code == 127
    assert docker('exec', '-w', '/etc/passwd', box, 'true').code == 127
    assert docker('exec', box, '/etc').code == 126


@pytest.mark.parametrize('options, shown', [
    (['--privileged'], ['label=disable']), (['--privileged', '--security-opt', 'label=disable'], ['label=disable']),
    (['--ipc', 'host'], ['label=disable']), (['--pid', 'host', '--security-opt', 'seccomp=unconfined'], ['seccomp=unconfined', 'label=disable']), ([], None),
], ids=['privileged', 'said', 'ipc', 'pid', 'none'])
@pytest.mark.container_only('HostConfig.PidMode')
def test_labels_are_off_without_a_wall(docker, name, options, shown):
    docker.ok('create', '--name', name, *options, 'bb')
    assert docker.inspect(name)['HostConfig']['SecurityOpt'] == shown
    docker.ok('rm', name)


def test_the_oldest_list_of_an_archive(docker, name):
    docker.ok('tag', 'bb', f'other/{name}:v2')
    archive = tarfile.open(fileobj=io.BytesIO(subprocess.run(docker.command('save', 'bb:latest', f'other/{name}:v2'), capture_output=True, env=docker.environment()).stdout))
    layer = json.load(archive.extractfile('manifest.json'))[0]['Layers'][-1].removeprefix('blobs/sha256/').removesuffix('/layer.tar')
    assert json.load(archive.extractfile('repositories')) == {'bb': {'latest': layer}, 'other/' + name: {'v2': layer}}
    docker.ok('rmi', f'other/{name}:v2')


@pytest.mark.differs('answers 500')
@pytest.mark.parametrize('text', ['9223372036854775808', '18446744073709551616', '-9223372036854775809', '1e9', '6291456.0', '1.5', '"1"'])
def test_numbers_that_are_no_integers(api, text):
    assert api.post(CREATE, f'{{"Image": "bb", "HostConfig": {{"Memory": {text}}}}}', headers={'Content-Type': 'application/json'}).status == 400


@pytest.mark.differs('answers 500')
@pytest.mark.parametrize('weight', [-1, 70000])
def test_weights_that_are_none(api, weight):
    assert api.post(CREATE, {'Image': 'bb', 'HostConfig': {'BlkioWeight': weight}}).status == 400


@pytest.mark.differs('takes it')
def test_an_endpoint_is_an_object(api):
    answer = api.post(CREATE, {'Image': 'bb', 'NetworkingConfig': {'EndpointsConfig': {'bridge': None}}})
    assert (answer.status, answer.message) == (400, 'invalid config for network bridge: EndpointsConfig is nil')
