"""Stages that nobody exports: what a RUN writes there stays a folder, without a tar and a digest, until somebody wants the image that it would have been."""
import contextlib
import os
import sqlite3
import tarfile

import pytest

from engines import settle
from test_buildx import buildx, project  # noqa: F401  fixtures

pytestmark = pytest.mark.berth

# What an overlay writes down in its own way: deletions, folders that hide what was below, links, modes, attributes of links.
MAKE = ('FROM bb AS one\n'
        'RUN mkdir -p /d/old/deep /gone && echo a >/d/a && echo b >/d/b && ln -s a /d/link && ln /d/a /d/hard && chmod 4755 /d/b && echo x >/gone/x && echo o >/d/old/o\n'
        'ENV SEEN=1\n'
        'RUN rm /d/a /var/www/index.html && rm -r /gone /d/old && mkdir /d/old && echo new >/d/old/x && mv /d/b /d/c && chmod 700 /home && dd if=/dev/zero of=/d/zeros bs=1M count=3 2>/dev/null\n')
ALL = MAKE + ('FROM one AS two\n'
              'COPY file /copied\n'
              'RUN --mount=type=bind,from=one,target=/m/place cp /m/place/d/old/x /from-mount && ls / /d /gone /var/www >/list 2>&1; true\n'
              'FROM bb\n'
              'COPY --from=two / /all/\n')
LISTING = 'cd {}/ && find d home var gone 2>/dev/null | sort | xargs ls -ldn | awk \'{{ print $1, $3, $4, $5 * (substr($1, 1, 1) != "d"), $9, $10, $11 }}\'; cat d/old/x d/hard'


def ask(docker, sql):
    with contextlib.closing(sqlite3.connect(f'file:{docker.engine.data}/berth.db?mode=ro', uri=True, timeout=30)) as records:
        return [row[0] for row in records.execute(sql)]


def folders(docker):
    return set(ask(docker, "SELECT folder FROM image_chains WHERE driver = 'loose'"))


def is_tidy(docker):
    """No layer's folder that no record names, and nothing of a transfer's."""
    named = set(ask(docker, 'SELECT folder FROM image_chains'))
    found = {name.split('.')[0] for name in os.listdir(docker.engine.data + '/layers')}
    return found <= named and not os.listdir(docker.engine.data + '/staging')


def members(docker, image, path):
    """Of each layer what its tar has, but for times."""
    docker.ok('save', '-o', str(path), image)
    with tarfile.open(path) as archive:
        names = sorted({entry.name for entry in archive if entry.isfile()})
        found = []
        for name in names:
            with contextlib.suppress(tarfile.ReadError), tarfile.open(fileobj=archive.extractfile(name)) as layer:
                found.append(sorted((m.name, m.type, m.mode, m.uid, m.gid, m.size, m.linkname, layer.extractfile(m).read() if m.isreg() else b'') for m in layer))
    return sorted(found)


def kill(engine, client):
    engine.kill9()
    client.wait(60)
    client.stderr.close()
    engine.start()
    engine.restarted = True


@pytest.fixture
def loose(docker):
    """Tells the folders of such layers that came since; what another test's container stands on is none of ours."""
    docker.ok('builder', 'prune', '-af')
    before = folders(docker)
    return lambda: folders(docker) - before


def test_it_is_a_folder_until_it_is_wanted(project, docker, tmp_path, loose):  # noqa: F811
    project.file('file', 'of the context\n')
    project.ok(ALL)
    assert len(loose()) == 3
    seen = project.run('sh', '-c', LISTING.format('/all'))
    assert 'new' in seen and 'd/c' in seen and 'd/b' not in seen and 'index.html' not in seen and 'gone' not in seen
    assert project.run('cat', '/all/from-mount', '/all/copied').split('\n') == ['new', 'of the context']
    assert '/m' not in project.run('ls', '/all').split() and 'resolv.conf' not in project.run('ls', '/all/etc')
    again = project.ok(ALL)
    assert again.count('CACHED') == 6, again

    name = project.name + ':one'
    project.name, whole = name, project.name
    wanted = project.ok(ALL, '--target', 'one')
    assert wanted.count('CACHED') == 3, wanted
    assert project.run('sh', '-c', LISTING.format('')) == seen.replace('/all', '')
    assert docker.inspect(name)['Config']['Env'][-1] == 'SEEN=1'
    kept = members(docker, name, tmp_path / 'kept.tar')
    project.ok(MAKE, '--no-cache')
    assert members(docker, name, tmp_path / 'new.tar') == kept

    docker.ok('rmi', name)
    project.name = whole
    third = project.ok(ALL.replace('FROM bb\nCOPY', 'RUN echo more >/more\nFROM bb\nCOPY'))
    assert 'more' in project.run('ls', '/all')
    assert third.count('CACHED') >= 2, third


def test_what_stands_on_it_is_found_when_it_was_wanted(project, docker, loose):  # noqa: F811
    text = 'FROM bb AS one\nRUN echo 1 >/1\nRUN echo 2 >/2\nFROM one AS two\nRUN echo 3 >/3\nRUN echo 4 >/4\nFROM bb\nCOPY --from=two /4 /4\n'
    project.ok(text)
    assert len(loose()) == 4
    assert project.ok(text, '--target', 'one').count('CACHED') == 2
    assert project.ok(text).count('CACHED') == 5  # 3 and 4 were made on what was there before
    assert len(loose()) == 4
    assert project.ok(text, '--target', 'two').count('CACHED') == 4
    assert project.run('cat', '/1', '/2', '/3', '/4') == '1\n2\n3\n4'
    assert not loose()  # nothing stands on them any more
    assert project.ok(text).count('CACHED') == 5
    assert is_tidy(docker)


def test_it_is_counted_and_pruned(project, docker, api, loose):  # noqa: F811
    project.ok('FROM bb AS one\nRUN dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null\nFROM bb\nCOPY --from=one /bin/true /t\n')
    row, = [row for row in api.get('/system/df?type=build-cache').json['BuildCache'] if 'of=/big' in row['Description']]
    assert 3 << 20 <= row['Size'] < 4 << 20 and not row['Shared']
    folder, = loose()
    assert os.path.getsize(f'{docker.engine.data}/layers/{folder}/big') == 3 << 20
    assert 'Total reclaimed space: 3.' in docker.ok('builder', 'prune', '-f')
    assert not loose() and is_tidy(docker)
    assert project.run('true') == ''


def test_nobody_names_it(project, docker, api, name, loose):  # noqa: F811
    project.ok('FROM bb AS one\nRUN echo 1 >/1\nFROM bb\nCOPY --from=one /1 /1\n')
    kept, = ask(docker, 'SELECT id FROM images WHERE hidden = 3')
    assert 'it can\'t be named' in docker('tag', kept, name + ':mine').err
    assert 'that no image was made of' in docker('save', kept).err
    assert 'No such image' in docker('inspect', '--type', 'image', kept[7:19]).err
    assert docker.ok('run', '--rm', kept, 'cat', '/1') == '1'
    docker.ok('create', '--name', name, kept, 'true')
    try:
        assert 'that no image was made of' in docker('commit', name).err
        docker.ok('builder', 'prune', '-af')
        assert loose()  # a container is made of it
    finally:
        docker.ok('rm', name)
    docker.ok('builder', 'prune', '-af')
    assert not loose()


def test_the_classic_door_wants_all(project, docker, loose):  # noqa: F811
    from test_build import Project as Classic
    text = 'FROM bb AS one\nRUN echo 1 >/1\nFROM bb\nCOPY --from=one /1 /1\n'
    project.ok(text)
    assert len(loose()) == 1
    out = Classic(docker, project.folder, project.name).ok(text)
    assert out.count('Using cache') == 2 and not loose()
    assert is_tidy(docker)


def test_a_cache_that_is_exported_wants_all(project, docker, loose, tmp_path):  # noqa: F811
    text = 'FROM scratch AS one\nCOPY --from=bb / /\nRUN echo 1 >/1\nRUN rm /1 && echo 2 >/2\nFROM bb\nCOPY --from=one / /all/\n'
    project.ok(text)
    assert len(loose()) == 2
    assert project.run('ls', '-A', '/all/dev', '/all/etc').split() == '/all/dev: /all/etc: group not-a-program passwd'.split()
    assert project.ok(text, '--cache-to', f'type=local,dest={tmp_path}/cache,mode=max').count('CACHED') == 4
    assert not loose()
    docker.ok('rmi', project.name)
    docker.ok('builder', 'prune', '-af')
    assert project.ok(text, '--cache-from', f'type=local,src={tmp_path}/cache').count('CACHED') == 4
    assert project.run('cat', '/all/2') == '2'


def test_a_daemon_that_is_killed(project, docker, engine, loose):  # noqa: F811
    """Before, in and behind the moment in which the folder changes hands."""
    text = 'FROM bb AS one\n' + ''.join(f'RUN echo {number} >/{number}\n' for number in range(12)) + 'FROM bb\nCOPY --from=one / /all/\n'
    project.file('Dockerfile', text)
    for count in (1, 4):
        client = project.buildx.popen(*project.words())
        settle(lambda: client.poll() is None and len(loose()) < count)
        kill(engine, client)
        assert is_tidy(docker) and not docker.ok('ps', '-aq', '--filter', 'name=build_')
    out = project.ok(text)
    assert out.count('CACHED') >= 3, out  # the last may have no key yet
    assert project.run('cat', *(f'/all/{number}' for number in range(12))).split() == [str(number) for number in range(12)]
    client = project.buildx.popen(*project.words('--target', 'one'))
    settle(lambda: client.poll() is None and not ask(docker, 'SELECT twin FROM build_twins'))
    kill(engine, client)
    assert is_tidy(docker)
    assert project.ok(text, '--target', 'one').count('CACHED') == 12
    assert project.run('cat', '/11') == '11'
