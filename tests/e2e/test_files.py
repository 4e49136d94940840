"""docker cp, diff and export: a container's files, whether it runs or not."""
import base64
import io
import json
import os
import re
import subprocess
import tarfile
import time
import urllib.parse

import pytest

import engines
import images

pytestmark = pytest.mark.skipif(os.environ.get('BERTH_E2E_ISOLATION') == 'vm', reason='tests/e2e/test_files_vm.py is about guests')


@pytest.fixture
def box(docker, name):
    """A running container with a few files."""
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c',
              'mkdir -p /d/sub; echo hi >/d/a.txt; ln -s /d /link; ln -s a.txt /d/l; ln /d/a.txt /d/same; ln -s no/where /broken; '
              'mkfifo /d/pipe; chown 1000:1234 /d/sub; chmod 2750 /d/sub; touch -d @1600000000 /d/sub; echo up; sleep 1000')
    engines.is_up(docker, name)
    return name


def quoted(path):
    return urllib.parse.quote(path)


def stat_of(response):
    return json.loads(base64.b64decode(response.headers['X-Docker-Container-Path-Stat']))


def get(api, container, path):
    return api.get(f'/containers/{container}/archive?path={quoted(path)}')


def put(api, container, path, data, **query):
    words = urllib.parse.urlencode({'path': path, **query})
    return api.request('PUT', f'/containers/{container}/archive?{words}', data, {'Content-Type': 'application/x-tar'})


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


# ---- out ----------------------------------------------------------------------------------------------------------------


def test_cp_out_of_a_running_container(docker, box, tmp_path):
    docker.ok('cp', f'{box}:/d', str(tmp_path))
    assert (tmp_path / 'd/a.txt').read_text() == 'hi\n' and os.readlink(tmp_path / 'd/l') == 'a.txt'
    assert sorted(os.listdir(tmp_path / 'd')) == ['a.txt', 'l', 'pipe', 'same', 'sub']
    assert os.stat(tmp_path / 'd/sub').st_mode & 0o7777 == 0o2750 and int(os.stat(tmp_path / 'd/sub').st_mtime) == 1600000000


def test_cp_out_of_a_stopped_container(docker, box, tmp_path):
    docker.ok('stop', '-t', '0', box)
    docker.ok('cp', f'{box}:/d/a.txt', str(tmp_path / 'file'))
    assert (tmp_path / 'file').read_text() == 'hi\n'


def test_cp_of_what_was_never_started(docker, name, tmp_path):
    docker.ok('create', '--name', name, 'bb')
    docker.ok('cp', f'{name}:/var/www/index.html', str(tmp_path))
    assert (tmp_path / 'index.html').read_text() == 'hello from the image\n'


def test_cp_out_follows_links_when_asked(docker, box, tmp_path):
    docker.ok('cp', f'{box}:/d/l', str(tmp_path / 'as-link'))
    docker.ok('cp', '-L', f'{box}:/d/l', str(tmp_path / 'as-file'))
    assert os.readlink(tmp_path / 'as-link') == 'a.txt' and (tmp_path / 'as-file').read_text() == 'hi\n'


def test_cp_out_to_a_stream(docker, box):
    done = subprocess.run(docker.command('cp', f'{box}:/d/.', '-'), capture_output=True, env=docker.environment())
    assert done.returncode == 0, done.stderr
    names = [member.name for member in members(done.stdout)]
    assert names == ['.', './a.txt', './l', './pipe', './same', './sub']


@pytest.mark.parametrize('path, first', [('/d', 'd'), ('/d/', 'd'), ('/d/.', '.'), ('d', 'd'), ('../d', 'd'), ('/d/../d', 'd'),
                                         ('/link', 'link'), ('/link/', 'link'), ('/d/a.txt', 'a.txt'), ('/broken', 'broken')])
def test_the_first_name_is_the_paths_last(api, box, path, first):
    answer = get(api, box, path)
    assert answer.status == 200 and answer.headers['Content-Type'] == 'application/x-tar'
    assert members(answer.body)[0].name == first and stat_of(answer)['name'] == first


def test_the_root_as_a_tar(api, box):
    names = [member.name for member in members(get(api, box, '/').body)]
    assert names[0] == '' and '/d/a.txt' in names and not any(name.startswith('/proc/') for name in names)


def test_names_of_one_file_are_hard_links(api, box):
    same = {member.name: member for member in members(get(api, box, '/d').body)}['d/same']
    assert same.islnk() and same.linkname == 'd/a.txt'


def test_what_a_path_is(api, box):
    def head(path):
        answer = api.request('HEAD', f'/containers/{box}/archive?path={quoted(path)}')
        assert answer.status == 200 and answer.body == b''
        return stat_of(answer)
    directory, link, setgid = head('/d'), head('/d/l'), head('/d/sub')
    assert directory['mode'] == 1 << 31 | 0o755 and directory['linkTarget'] == '' and directory['mtime'].endswith('Z')
    assert link['mode'] == 1 << 27 | 0o777 and link['linkTarget'] == '/d/a.txt' and link['size'] == len('a.txt')
    assert setgid['mode'] == 1 << 31 | 1 << 22 | 0o750 and setgid['mtime'].startswith('2020-09-13T12:26:40')
    assert head('/broken')['linkTarget'] == '/no/where'
    assert head('/d/pipe')['mode'] == 1 << 25 | 0o644 and head('/d/a.txt')['size'] == 3


@pytest.mark.new_client('its own words')
def test_what_is_not_there(docker, api, box, tmp_path):
    for path in ('/nosuch', '/broken/x', '/d/nosuch/x'):
        answer = get(api, box, path)
        assert answer.status == 404 and answer.message == f'Could not find the file {path} in container {box}'
    assert api.request('HEAD', f'/containers/{box}/archive?path=/nosuch').status == 404
    assert put(api, box, '/nosuch', images.tar([])).status == 404
    answer = api.get('/containers/nosuch/archive?path=/x')
    assert answer.status == 404 and answer.message == 'No such container: nosuch'
    assert api.get(f'/containers/{box}/archive').status == 400 and get(api, box, '').status == 400
    result = docker('cp', f'{box}:/nosuch', str(tmp_path))
    assert result.code == 1 and 'Could not find the file /nosuch in container' in result.err


def test_volumes_are_seen_in_their_places(docker, api, name, tmp_path):
    (tmp_path / 'f').write_text('of the host')
    docker.ok('run', '-d', '--name', name, '-v', f'{tmp_path}:/data/deep', '-v', f'{name}v:/data', '--tmpfs', '/memory', 'bb', 'sh', '-c',
              'echo in >/data/x; touch /memory/x; echo up; sleep 1000')
    engines.is_up(docker, name)
    for _ in ('running', 'stopped'):
        assert [member.name for member in members(get(api, name, '/data').body)] == ['data', 'data/deep', 'data/deep/f', 'data/x']
        assert get(api, name, '/memory/x').status == 404
        hosts = members(get(api, name, '/etc/hosts').body)[0]
        assert hosts.size > 0
        docker.ok('stop', '-t', '0', name)


def test_a_large_folder_to_a_client_that_leaves(docker, engine, api, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; echo up; sleep 1000')
    engines.is_up(docker, name)
    client = api.raw(f'GET /containers/{name}/archive?path=/big HTTP/1.1\r\nHost: x\r\n\r\n'.encode())
    assert client.recv(100).startswith(b'HTTP/1.1 200')
    client.close()
    docker.ok('rm', '-f', name)  # nothing holds it


# ---- in -----------------------------------------------------------------------------------------------------------------


def test_cp_into_a_running_container(docker, box, tmp_path):
    (tmp_path / 'new/sub').mkdir(parents=True)
    (tmp_path / 'new/sub/file').write_text('copied in')
    os.chmod(tmp_path / 'new/sub/file', 0o640)
    docker.ok('cp', str(tmp_path / 'new'), f'{box}:/d')
    assert docker.ok('exec', box, 'cat', '/d/new/sub/file') == 'copied in'
    assert docker.ok('exec', box, 'stat', '-c', '%a %u', '/d/new/sub/file') == '640 0'


def test_cp_into_a_stopped_container(docker, name, tmp_path):
    (tmp_path / 'run').write_text('#!/bin/sh\necho from outside\n')
    os.chmod(tmp_path / 'run', 0o755)
    docker.ok('create', '--name', name, 'bb', '/run-me')
    docker.ok('cp', str(tmp_path / 'run'), f'{name}:/run-me')
    assert docker.ok('start', '-a', name) == 'from outside'


def test_cp_in_from_a_stream(docker, box):
    docker.ok('cp', '-', f'{box}:/d', input=images.tar([images.folder('x'), images.entry('x/y', data=b'streamed', uid=7, gid=8)]))
    assert docker.ok('exec', box, 'cat', '/d/x/y') == 'streamed'
    assert docker.ok('exec', box, 'stat', '-c', '%u:%g %Y', '/d/x/y') == '7:8 1700000000'


def test_cp_in_through_a_link(docker, api, box):
    assert put(api, box, '/link', images.tar([images.entry('through')])).status == 200
    assert docker.ok('exec', box, 'ls', '/d/through') == '/d/through'


def test_every_kind_of_entry_comes_in(docker, api, box):
    entries = [images.folder('k'), images.entry('k/f', data=b'1'), images.entry('k/h', tarfile.LNKTYPE, link='k/f'),
               images.entry('k/s', tarfile.SYMTYPE, link='f'), images.entry('k/p', tarfile.FIFOTYPE), images.entry('deep/er/x', data=b'2'),
               images.entry('k/' + 'n' * 150, data=b'3'), images.entry('k/set', data=b'4', mode=0o4755, uid=1000)]
    assert put(api, box, '/d', images.tar(entries)).status == 200
    listed = docker.ok('exec', box, 'stat', '-c', '%n %F %a %h', '/d/k/f', '/d/k/h', '/d/k/p', '/d/deep', '/d/k/set').splitlines()
    assert listed == ['/d/k/f regular file 644 2', '/d/k/h regular file 644 2', '/d/k/p fifo 644 1', '/d/deep directory 755 3',
                      '/d/k/set regular file 4755 1']
    assert docker.ok('exec', box, 'cat', '/d/k/s', '/d/k/' + 'n' * 150) == '13'


def test_what_is_there_is_replaced(docker, api, box):
    assert put(api, box, '/d', images.tar([images.entry('sub', data=b'a file now')])).status == 200
    assert docker.ok('exec', box, 'cat', '/d/sub') == 'a file now'


def test_kinds_stay_when_the_client_asks(api, box):
    answer = put(api, box, '/d', images.tar([images.entry('sub')]), noOverwriteDirNonDir=1)
    assert answer.status >= 400 and re.search('cannot overwrite directory ".*sub" with non-directory', answer.message)
    answer = put(api, box, '/d', images.tar([images.folder('a.txt')]), noOverwriteDirNonDir=1)
    assert answer.status >= 400 and re.search('cannot overwrite non-directory ".*a.txt" with directory', answer.message)


def test_into_what_is_no_folder(api, box):
    answer = put(api, box, '/d/a.txt', images.tar([images.entry('x')]))
    assert answer.status >= 400 and 'extraction point is not a directory' in answer.message


def test_junk_is_refused(api, box):
    answer = put(api, box, '/d', b'junk' * 500)
    assert answer.status >= 400 and 'archive/tar: invalid tar header' in answer.message
    assert put(api, box, '/d', b'').status == 200


@pytest.mark.parametrize('form', ['gz', 'bz2', pytest.param('xz', marks=pytest.mark.differs_today('asks a program that its root here may lack', alone=True))])
def test_a_compressed_tar_comes_in(docker, api, box, form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w:' + form) as archive:
        archive.addfile(*[(info, io.BytesIO(data)) for info, data in [images.entry('packed', data=b'packed')]][0])
    assert put(api, box, '/d', out.getvalue()).status == 200
    assert docker.ok('exec', box, 'cat', '/d/packed') == 'packed'


def test_read_only_places(docker, api, name, tmp_path):
    docker.ok('create', '--name', name, '--read-only', '-v', f'{tmp_path}:/rw', '-v', f'{tmp_path}:/ro:ro', 'bb', 'sleep', '1000')
    one = images.tar([images.entry('x')])
    for _ in ('created', 'running'):
        answer = put(api, name, '/tmp', one)
        assert answer.status >= 400 and answer.message == 'container rootfs is marked read-only'
        answer = put(api, name, '/ro', one)
        assert answer.status >= 400 and answer.message == 'mounted volume is marked read-only'
        assert put(api, name, '/rw', one).status == 200 and (tmp_path / 'x').exists()
        (tmp_path / 'x').unlink()
        docker.ok('start', name)


@pytest.mark.differs('looks the user up on the host')
def test_archive_mode_gives_to_the_containers_user(docker, name, tmp_path):
    (tmp_path / 'mine').write_text('')
    docker.ok('run', '-d', '--name', name, '--user', 'app', 'bb', 'sleep', '1000')
    docker.ok('cp', '-a', str(tmp_path / 'mine'), f'{name}:/tmp/mine')
    assert docker.ok('exec', name, 'stat', '-c', '%U', '/tmp/mine') == 'app'


def test_events_of_copies(docker, api, box, tmp_path):
    docker.ok('cp', f'{box}:/d/a.txt', str(tmp_path))
    put(api, box, '/d', images.tar([images.entry('x')]))
    seen = docker.ok('events', '--since', '1h', '--until', f'{time.time():.6f}', '--filter', f'container={box}', '--format', '{{.Action}}').splitlines()
    assert seen[-2:] == ['archive-path', 'extract-to-dir']


# ---- ways out -----------------------------------------------------------------------------------------------------------


def test_a_link_of_the_container_leads_inside(docker, api, name, sealed):
    """CVE-2018-15664 without the race, and CVE-2019-14271's first half: nothing is read or written where a link leads on the host."""
    secret = sealed / 'witness'
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c',
              f'ln -s {sealed} /abs; ln -s ../../../../../../..{sealed} /rel; ln -s {secret} /file; echo up; sleep 1000')
    engines.is_up(docker, name)
    for _ in ('running', 'stopped'):
        for path in ('/abs/', '/rel/', '/abs/witness', '/rel/witness', '/abs/.', '/file/'):
            assert get(api, name, path).status == 404, path
            assert put(api, name, path, images.tar([images.entry('x')])).status == 404, path
        docker.ok('stop', '-t', '0', name)


@pytest.mark.long
def test_an_exchange_of_folders_leads_nowhere(docker, api, name, sealed):
    """CVE-2018-15664: a process of the container exchanges a folder for a link while it is copied to and from."""
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c',
              f'mkdir /a; ln -s {sealed} /b; echo up; while :; do mv /a /c; mv /b /a; mv /a /b; mv /c /a; done')
    engines.is_up(docker, name)
    for _ in range(40):
        put(api, name, '/a', images.tar([images.entry('caught')]))
        get(api, name, '/a')


def test_nothing_of_the_container_is_loaded(docker, api, name):
    """CVE-2019-14271: libraries and lists of the container's tree are the worker's own when it is its root."""
    lists = [images.folder(folder) for folder in ('lib', 'lib/x86_64-linux-gnu', 'usr', 'usr/lib', 'usr/lib/x86_64-linux-gnu',
                                                  'usr/lib/x86_64-linux-gnu/gconv')]
    bad = b'\x7fELF not a library'
    files = [images.entry(f'lib/x86_64-linux-gnu/{library}', data=bad, mode=0o755) for library in
             ('libnss_files.so.2', 'libnss_compat.so.2', 'libc.so.6', 'libjansson.so.4')]
    files += [images.entry('usr/lib/x86_64-linux-gnu/gconv/gconv-modules', data=b'module UTF-8// INTERNAL bad 1\n'),
              images.entry('etc/nsswitch.conf', data=b'passwd: evil\n'), images.entry('etc/ld.so.preload', data=b'/lib/evil.so\n')]
    docker.ok('load', input=images.docker_archive(f'{name}:1', [images.busybox_root(), images.tar(lists + files)])[0])
    docker.ok('create', '--name', name, f'{name}:1')
    assert get(api, name, '/etc/nsswitch.conf').status == 200
    assert put(api, name, '/', images.tar([images.entry('caf\u00e9', data=b'x')])).status == 200
    docker.ok('rm', name)
    docker.ok('rmi', f'{name}:1')


@pytest.mark.parametrize('bad', [images.entry('../esc'), images.entry('a/../../esc'), images.entry('esc', tarfile.LNKTYPE, link='../../x')])
def test_a_tar_that_climbs_out(docker, api, box, bad):
    answer = put(api, box, '/d', images.tar([bad]))
    assert answer.status >= 400 and re.search('is outside of|invalid hardlink|invalid entry name', answer.message)
    assert docker('exec', box, 'ls', '/esc').code != 0


def test_a_tar_that_writes_through_its_own_link(docker, api, box, sealed):
    evil = images.tar([images.entry('way', tarfile.SYMTYPE, link=str(sealed)), images.entry('way/caught', data=b'x')])
    put(api, box, '/d', evil)


# ---- export -------------------------------------------------------------------------------------------------------------


def test_export_is_the_tree_without_volumes(docker, name):
    docker.ok('run', '--name', name, '-v', '/vol', '--tmpfs', '/memory', 'bb', 'sh', '-c',
              'touch /vol/x /memory/x; mkdir /made; echo new >/made/file; rm /etc/group')
    done = subprocess.run(docker.command('export', name), capture_output=True, env=docker.environment())
    found = {member.name: member for member in members(done.stdout)}
    assert found['vol'].isdir() and found['memory'].isdir() and 'vol/x' not in found and 'memory/x' not in found
    assert found['made/file'].size == 4 and 'etc/group' not in found and found['proc'].isdir()
    assert 'bin/busybox' in found and not any(member.startswith('/') for member in found)


def test_an_export_can_be_imported(docker, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sh', '-c', 'echo kept >/kept; echo up; sleep 1000')
    engines.is_up(docker, name)
    data = subprocess.run(docker.command('export', name), capture_output=True, env=docker.environment()).stdout
    docker.ok('import', '-', f'{name}:flat', input=data)
    assert docker.ok('run', '--rm', f'{name}:flat', 'cat', '/kept') == 'kept'
    docker.ok('rmi', f'{name}:flat')


# ---- diff ---------------------------------------------------------------------------------------------------------------


def test_diff_tells_what_was_added_changed_and_deleted(docker, name):
    docker.ok('run', '--name', name, '-v', '/vol', 'bb', 'sh', '-c',
              'rm /etc/group; echo x >>/etc/passwd; touch /new; mkdir -p /a/b; chmod 700 /tmp; rm -r /var/www; mkdir /var/www; '
              'touch /var/www/b; touch /vol/x; mkfifo /pipe')
    found = docker.ok('diff', name).split('\n')
    assert sorted(found) == ['A /a', 'A /a/b', 'A /new', 'A /pipe', 'A /var/www/b', 'A /vol', 'C /etc', 'C /etc/passwd', 'C /tmp', 'C /var',
                             'C /var/www', 'D /etc/group', 'D /var/www/index.html']


def test_diff_of_what_changed_nothing(docker, api, name):
    docker.ok('run', '-d', '--name', name, 'bb', 'sleep', '1000')
    assert docker.ok('diff', name) == '' and api.get(f'/containers/{name}/changes').json is None
    assert api.get('/containers/nosuch/changes').status == 404


def test_a_folder_that_was_renamed(docker, name):
    docker.ok('run', '--name', name, 'bb', 'sh', '-c', 'mv /var/www /var/web')
    assert sorted(docker.ok('diff', name).split('\n')) == ['A /var/web', 'A /var/web/index.html', 'C /var', 'D /var/www']
