"""What is mounted where: in which order, from another container, with the options of --mount in full."""
import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def tmpfs_at(path):
    """A file system below a folder of the host, for binds that take along what is mounted there, or don't."""
    path.mkdir()
    subprocess.run(['mount', '-t', 'tmpfs', 'below', path], check=True)
    try:
        (path / 'deep').write_text('deep\n')
        yield
    finally:
        subprocess.run(['umount', path], check=True)


@pytest.mark.container_only('HostConfig.Binds')
class TestOrder:
    def test_a_place_below_another_is_mounted_after_it(self, docker, tmp_path):
        (tmp_path / 'upper/sub').mkdir(parents=True)
        (tmp_path / 'upper/a').write_text('upper\n')
        (tmp_path / 'lower').mkdir()
        (tmp_path / 'lower/b').write_text('lower\n')
        said = docker.ok('run', '--rm', '-v', f'{tmp_path}/lower:/d/sub', '-v', f'{tmp_path}/upper:/d', 'bb', 'cat', '/d/a', '/d/sub/b')
        assert said.split() == ['upper', 'lower']

    def test_an_empty_volume_starts_with_what_the_image_has(self, docker, name):
        docker.ok('volume', 'create', name)
        assert 'passwd' in docker.ok('run', '--rm', '-v', f'{name}:/etc', 'bb', 'ls', '/etc').split()
        docker.ok('run', '--rm', '-v', f'{name}:/etc', 'bb', 'rm', '/etc/passwd')
        assert 'passwd' not in docker.ok('run', '--rm', '-v', f'{name}:/etc', 'bb', 'ls', '/etc').split()
        docker.ok('volume', 'create', name + '-n')
        assert docker('run', '--rm', '-v', f'{name}-n:/etc:nocopy', 'bb', 'ls', '/etc/passwd').code == 1
        docker.ok('volume', 'rm', name, name + '-n')


@pytest.mark.container_only('HostConfig.Binds')
class TestVolumesFrom:
    @pytest.mark.differs_today('takes no tmpfs along')
    def test_all_mounts_of_another(self, docker, name, tmp_path):
        (tmp_path / 'f').write_text('host\n')
        docker.ok('create', '--name', name, '-v', '/data', '-v', f'{tmp_path}:/bind', '--mount', 'type=tmpfs,dst=/t', 'bb')
        docker.ok('run', '--rm', '--volumes-from', name, 'bb', 'sh', '-c', 'echo kept >/data/f && cat /bind/f && grep -q " /t tmpfs" /proc/mounts')
        assert docker.ok('run', '--rm', '--volumes-from', name + ':ro', 'bb', 'cat', '/data/f').strip() == 'kept'
        assert docker('run', '--rm', '--volumes-from', name + ':ro', 'bb', 'touch', '/data/g').code != 0
        # A mount of its own at the same place wins.
        assert docker.ok('run', '--rm', '--volumes-from', name, '-v', f'{name}v:/data', 'bb', 'ls', '/data') == ''
        docker.ok('rm', '-v', name)
        docker.ok('volume', 'rm', name + 'v')

    def test_the_volume_outlives_its_first_container(self, docker, name):
        docker.ok('run', '--name', name, '-v', '/data', 'bb', 'touch', '/data/f')
        docker.ok('create', '--name', name + '2', '--volumes-from', name, 'bb', 'ls', '/data')
        docker.ok('rm', '-v', name)
        assert docker.ok('start', '-a', name + '2').strip() == 'f'
        volume = docker.inspect(name + '2')['Mounts'][0]['Name']
        docker.ok('rm', '-v', name + '2')
        assert volume not in docker.ok('volume', 'ls', '-q').split()

    @pytest.mark.parametrize('spec, says', [('nosuch-container', 'No such container: nosuch-container'), pytest.param(':ro', 'No such container: ', marks=pytest.mark.differs_today('takes no name for the first one, or has other words')),
                                            ('x:nosuch', 'invalid mode: nosuch'), ('x:rshared', 'invalid mode: rshared'),
                                            ('x:nocopy', 'invalid mode: nocopy')])
    def test_what_is_none_is_refused(self, api, spec, says):
        answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'VolumesFrom': [spec]}})
        assert answer.status in (400, 404) and says in answer.message


@pytest.mark.container_only('HostConfig.Mounts')
class TestOptions:
    @pytest.mark.differs_today('has its own namespace of mounts here')
    @pytest.mark.new_client('no such options of --mount')
    def test_what_is_mounted_below(self, docker, tmp_path):
        with tmpfs_at(tmp_path / 'sub'):
            bind = f'type=bind,src={tmp_path},dst=/d'
            assert docker.ok('run', '--rm', '--mount', bind, 'bb', 'cat', '/d/sub/deep').strip() == 'deep'
            assert not docker.ok('run', '--rm', '--mount', bind + ',bind-recursive=disabled', 'bb', 'ls', '/d/sub').strip()
            assert docker('run', '--rm', '--mount', bind + ',ro', 'bb', 'touch', '/d/sub/x').code != 0
            assert docker('run', '--rm', '--mount', bind + ',ro,bind-recursive=readonly,bind-propagation=rprivate', 'bb', 'touch', '/d/sub/x').code != 0
            docker.ok('run', '--rm', '--mount', bind + ',ro,bind-recursive=writable', 'bb', 'touch', '/d/sub/x')
            assert docker('run', '--rm', '--mount', bind + ',ro,bind-recursive=writable', 'bb', 'touch', '/d/x').code != 0

    @pytest.mark.differs_today('finds it at the start')
    def test_options_of_a_bind_that_exclude_each_other(self, api, tmp_path):
        def create(read_only, **options):
            mount = {'Type': 'bind', 'Source': str(tmp_path), 'Target': '/d', 'ReadOnly': read_only, 'BindOptions': options}
            return api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'Mounts': [mount]}})
        assert create(True, ReadOnlyNonRecursive=True, ReadOnlyForceRecursive=True).status == 400

    @pytest.mark.differs('knows it since 23')
    def test_a_missing_source_is_made_where_asked_for(self, api, docker, tmp_path):
        mount = {'Type': 'bind', 'Source': f'{tmp_path}/new/deep', 'Target': '/d'}
        body = {'Image': 'bb', 'Cmd': ['touch', '/d/f'], 'HostConfig': {'Mounts': [mount]}}
        answer = api.post('/containers/create', body)
        assert answer.status == 400 and 'bind source path does not exist' in answer.message
        mount['BindOptions'] = {'CreateMountpoint': True}
        container = api.post('/containers/create', body).json['Id']
        docker.ok('start', '-a', container)
        assert (tmp_path / 'new/deep/f').exists()
        docker.ok('rm', container)

    @pytest.mark.differs('knows it since 26')
    @pytest.mark.new_client('no such options of --mount')
    def test_a_folder_of_a_volume(self, docker, name):
        docker.ok('run', '--rm', '-v', f'{name}:/v', 'bb', 'sh', '-c', 'mkdir -p /v/a/b && echo in >/v/a/b/f && ln -s /etc /v/out')
        sub = f'type=volume,src={name},dst=/d,volume-subpath='
        assert docker.ok('run', '--rm', '--mount', sub + 'a/b', 'bb', 'cat', '/d/f').strip() == 'in'
        assert docker.ok('run', '--rm', '--mount', sub + 'a/b/f', 'bb', 'cat', '/d').strip() == 'in'
        for bad in ('nosuch', 'out', '../x', '/a'):  # a link leads to what the volume has at that place: nothing
            answer = docker('run', '--rm', '--mount', sub + bad, 'bb', 'ls', '/d')
            assert answer.code in (125, 127), bad  # by the text: docker's clients take "no such file" for the program's
        assert docker('run', '--rm', '--mount', 'type=volume,dst=/d,volume-subpath=a', 'bb', 'true').code == 125
        docker.ok('volume', 'rm', name)

    def test_labels_and_driver_of_a_new_volume(self, api, docker, name):
        docker.ok('run', '--rm', '--mount', f'type=volume,src={name},dst=/d,volume-label=a=b,volume-driver=local', 'bb', 'true')
        assert docker.ok('volume', 'inspect', '-f', '{{.Labels.a}}', name).strip() == 'b'
        docker.ok('volume', 'rm', name)
        mount = {'Type': 'volume', 'Source': name, 'Target': '/d', 'VolumeOptions': {'DriverConfig': {'Name': 'nosuch'}}}
        answer = api.post('/containers/create', {'Image': 'bb', 'HostConfig': {'Mounts': [mount]}})
        assert answer.status == 404 and 'plugin "nosuch" not found' in answer.message
        assert name not in docker.ok('volume', 'ls', '-q').split()

    @pytest.mark.differs('knows them since 28')
    def test_programs_of_a_tmpfs(self, api, docker):
        def run(options):
            mount = {'Type': 'tmpfs', 'Target': '/t', 'TmpfsOptions': {'Options': options}}
            answer = api.post('/containers/create', {'Image': 'bb', 'Cmd': ['sh', '-c', 'cp /bin/busybox /t/true && /t/true'],
                                                     'HostConfig': {'Mounts': [mount]}})
            if answer.status != 201:
                return answer.message
            code = docker('start', '-a', answer.json['Id']).code
            docker.ok('rm', answer.json['Id'])
            return code
        assert run([['exec']]) == 0
        assert run([['noexec']]) != 0
        assert 'invalid option: suid' in run([['suid']])
        assert 'invalid option array length' in run([[]])


@pytest.mark.container_only('HostConfig.Binds')
class TestVolumeOptions:
    """docker volume create -o: what the options name is mounted while a container uses the volume."""
    def make(self, docker, name, **options):
        return docker('volume', 'create', *(word for key, value in options.items() for word in ('-o', f'{key}={value}')), name)

    @pytest.mark.parametrize('options, says', [({'nosuch': 'x'}, 'invalid option: "nosuch"'), ({'type': 'tmpfs'}, 'missing required option: "device"'),
                                               ({'device': 'x'}, 'missing required option: "type"'), ({'o': 'ro'}, 'missing required option: '),
                                               ({'size': '1m'}, 'quota size requested but no quota support')])
    def test_options_that_are_none(self, docker, name, options, says):
        answer = self.make(docker, name, **options)
        assert answer.code == 1 and says in answer.err
        assert name not in docker.ok('volume', 'ls', '-q').split()

    def test_a_tmpfs_is_shared_while_it_is_used(self, docker, name):
        assert self.make(docker, name, type='tmpfs', device='tmpfs', o='size=1m,uid=1000,noexec').code == 0
        assert docker.ok('volume', 'inspect', '-f', '{{.Options.o}} {{.Options.type}}', name) == 'size=1m,uid=1000,noexec tmpfs'
        docker.ok('run', '-d', '--name', name, '-v', f'{name}:/d', 'bb', 'sleep', '100')
        docker.ok('run', '--rm', '-v', f'{name}:/d', 'bb', 'touch', '/d/f')
        assert docker.ok('exec', name, 'stat', '-c', '%u', '/d', '/d/f').split() == ['1000', '0']
        assert 'noexec' in docker.ok('exec', name, 'grep', ' /d ', '/proc/mounts')
        docker.ok('restart', '-t', '0', name)
        assert docker.ok('exec', name, 'ls', '/d') == ''
        docker.ok('rm', '-f', name)
        docker.ok('volume', 'rm', name)

    def test_a_folder_of_the_host_outlives_its_volume(self, docker, engine, name, tmp_path):
        (tmp_path / 'f').write_text('host\n')
        assert self.make(docker, name, type='none', device=str(tmp_path), o='bind').code == 0
        docker.ok('run', '-d', '--name', name, '-v', f'{name}:/etc', 'bb', 'sleep', '100')
        assert docker.ok('exec', name, 'ls', '/etc').split() == ['f', 'hostname', 'hosts', 'resolv.conf']  # nothing is copied to what has something
        path = docker.ok('volume', 'inspect', '-f', '{{.Mountpoint}}', name)
        docker.ok('exec', name, 'touch', '/etc/g')
        assert docker('volume', 'rm', name).code == 1
        docker.ok('rm', '-f', name)
        docker.ok('volume', 'rm', name)
        assert sorted(os.listdir(tmp_path)) == ['f', 'g', 'hostname', 'hosts', 'resolv.conf'] and path not in open('/proc/mounts').read()

    def test_what_can_not_be_mounted(self, docker, name):
        assert self.make(docker, name, type='none', device='/nosuch', o='bind').code == 0
        answer = docker('run', '--name', name, '-v', f'{name}:/d:nocopy', 'bb', 'true')
        assert answer.code != 0 and 'no such file or directory' in answer.err.lower() and 'failed to mount local volume' in answer.err
        docker.ok('rm', name)
        docker.ok('volume', 'rm', name)
