"""docker build by the classic builder: the client sends a folder, the daemon makes an image of it step by step."""
import io
import json
import os
import re
import subprocess
import tarfile
import urllib.parse

import pytest

import engines


class Project:
    """A folder with a Dockerfile, and the image that comes of it."""

    def __init__(self, docker, folder, name):
        self.docker, self.folder, self.name = docker, str(folder), name

    def file(self, path, text='', mode=0o644):
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        os.chmod(path, mode)

    def command(self, *options):
        return self.docker.command('build', *options, self.folder, seconds=600)

    def environment(self):
        return {**self.docker.environment(), 'DOCKER_BUILDKIT': '0'}

    def build(self, dockerfile, *options, tag=None):
        """The whole of what the client printed, and its exit code."""
        self.file('Dockerfile', dockerfile)
        done = subprocess.run(self.command('-t', tag or self.name, *options), capture_output=True, text=True, env=self.environment(),
                              stdin=subprocess.DEVNULL)
        return done

    def ok(self, dockerfile, *options, **more):
        done = self.build(dockerfile, *options, **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fails(self, dockerfile, *options):
        done = self.build(dockerfile, *options)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def run(self, *words):
        return self.docker.ok('run', '--rm', self.name, *words)

    @property
    def image(self):
        return self.docker.inspect(self.name)


@pytest.fixture
def project(docker, tmp_path, name):
    folder = tmp_path / 'context'
    folder.mkdir()
    project = Project(docker, folder, name)
    yield project
    for reference in docker.ok('images', '-q', '--filter', f'reference={name}*').split():
        docker('rmi', '-f', reference)


# ---- the thinnest ---------------------------------------------------------------------------------------------------

THIN = 'FROM bb\nCOPY hello /srv/\nRUN echo made >/made && cat /srv/hello\nCMD cat /srv/hello /made\n'


def test_a_folder_becomes_an_image(project):
    project.file('hello', 'hello from the context\n')
    out = project.ok(THIN)
    assert 'Step 1/4 : FROM bb\n ---> ' in out and 'Step 4/4 : CMD cat /srv/hello /made\n' in out
    assert re.search(r' ---> Running in [0-9a-f]{12}\nhello from the context\n', out)
    identity = project.image['Id']
    assert f'Successfully built {identity[7:19]}\nSuccessfully tagged {project.name}:latest\n' in out
    assert project.run() == 'hello from the context\nmade'
    assert project.image['Config']['Cmd'] == ['/bin/sh', '-c', 'cat /srv/hello /made']


def test_the_second_build_does_nothing(project):
    project.file('hello', 'again\n')
    project.ok(THIN)
    identity = project.image['Id']
    os.utime(os.path.join(project.folder, 'hello'), (1, 1))
    out = project.ok(THIN)
    assert out.count(' ---> Using cache\n') == 3 and 'Running in' not in out
    assert project.image['Id'] == identity
    project.file('hello', 'changed\n')
    out = project.ok(THIN)
    assert ' ---> Using cache\n' not in out and project.run() == 'changed\nmade'
    assert 'Using cache' not in project.ok(THIN, '--no-cache')


def test_containers_of_steps_are_gone(project, docker):
    project.file('hello', 'gone\n')
    project.ok(THIN, '--no-cache')
    assert docker.ok('ps', '-aq') == ''


# ---- instructions ---------------------------------------------------------------------------------------------------

@pytest.mark.container_only('Volumes')
def test_the_configuration(project):
    project.ok('FROM bb\nLABEL a=1 b="two words"\nENV X=1 Y="$X-2"\nENV Z=$X-3\nWORKDIR /made/here\nWORKDIR sub\nUSER app\nEXPOSE 80 53/udp\nVOLUME /data\n'
               'STOPSIGNAL SIGINT\nSHELL ["/bin/sh", "-ec"]\nHEALTHCHECK --interval=5s CMD true\nENTRYPOINT ["echo"]\nCMD ["a b", "c"]\nONBUILD RUN true\n')
    config = project.image['Config']
    assert config['Labels'] == {'a': '1', 'b': 'two words'}
    assert {'X=1', 'Y=-2', 'Z=1-3'} <= set(config['Env'])
    assert config['WorkingDir'] == '/made/here/sub' and config['User'] == 'app' and set(config['ExposedPorts']) == {'80/tcp', '53/udp'}
    assert set(config['Volumes']) == {'/data'} and config['StopSignal'] == 'SIGINT' and config['Shell'] == ['/bin/sh', '-ec']
    assert config['Healthcheck']['Test'] == ['CMD-SHELL', 'true'] and config['Healthcheck']['Interval'] == 5 * 10**9
    assert config['Entrypoint'] == ['echo'] and config['Cmd'] == ['a b', 'c'] and config['OnBuild'] == ['RUN true']
    assert project.run() == 'a b c'


def test_an_entrypoint_drops_the_inherited_command(project):
    project.ok('FROM bb\nENTRYPOINT ["echo", "x"]\n')
    assert not project.image['Config']['Cmd']


def test_copies(project):
    project.file('a/one', '1', 0o640)
    project.file('a/sub/two', '2', 0o755)
    project.file('three.txt', '3')
    project.file('four.txt', '4')
    os.symlink('one', os.path.join(project.folder, 'a/link'))
    os.symlink('three.txt', os.path.join(project.folder, 'outer'))
    project.ok('FROM bb\nCOPY a /x\nCOPY a/ /home/\nCOPY *.txt /t/\nCOPY three.txt /renamed\nCOPY outer /followed\nCOPY --chown=app:extra a/one /owned/deep/\n'
               'WORKDIR /w\nCOPY four.txt ./\nCOPY . /all/\n')
    out = project.run('sh', '-c', 'cd /x; stat -c "%n %a %u %g" one sub sub/two; readlink link; ls /home /t; cat /renamed /followed /w/four.txt; echo;'
                      'stat -c "%n %u %g" /owned/deep/one /owned/deep /home/app; ls -A /all; stat -c %F /all/outer')
    assert out.splitlines() == ['one 640 0 0', 'sub 755 0 0', 'sub/two 755 0 0', 'one', '/home:', 'app', 'link', 'one', 'sub', '', '/t:', 'four.txt', 'three.txt',
                                '334', '/owned/deep/one 1000 1234', '/owned/deep 1000 1234', '/home/app 1000 1000', 'Dockerfile', 'a', 'four.txt', 'outer',
                                'three.txt', 'symbolic link']


@pytest.mark.differs_today('has no COPY --chmod in its classic builder')
def test_copy_chmod(project):
    project.file('f', 'x', 0o644)
    project.ok('FROM bb\nCOPY --chmod=4751 f /f\n')
    assert project.run('stat', '-c', '%a', '/f') == '4751'


def packed(names, mode='w:gz'):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.uid = 2, 7
            archive.addfile(info, io.BytesIO(b'ok'))
    return out.getvalue()


@pytest.mark.parametrize('mode', ['w', 'w:gz', 'w:bz2', 'w:xz'])
def test_add_unpacks_archives(project, mode):
    project.file('x.tar', packed(['in/one', 'two'], mode))
    project.file('plain', 'text')
    project.file('no.gz', b'\x1f\x8b' + b'no gzip' * 200)
    project.ok('FROM bb\nADD x.tar /u/\nADD plain /p\nADD no.gz /n/\nCOPY x.tar /c/\n')
    assert project.run('sh', '-c', 'cat /u/in/one /u/two /p; echo; stat -c %u /u/two; ls /c /n').split() == ['okoktext', '7', '/c:', 'x.tar', '/n:', 'no.gz']


def test_a_folder_behind_a_link_stays_a_link(project):
    project.file('f', 'x')
    project.ok('FROM bb\nRUN mkdir -p /usr/real && ln -s usr/real /lib\nCOPY f /lib/sub/\nCOPY f /lib/\n')
    assert project.run('sh', '-c', 'readlink /lib; ls /usr/real').split() == ['usr/real', 'f', 'sub']


def test_stages(project):
    out = project.ok('FROM bb AS one\nRUN echo first >/f\nFROM bb\nRUN echo second >/g\nFROM bb AS three\nCOPY --from=one /f /1\nCOPY --from=1 /g /2\n'
                     'COPY --from=bb /etc/passwd /3\n')
    assert 'Step 8/8' in out
    assert project.run('cat', '/1', '/2').split() == ['first', 'second']
    assert 'Step 2/2 : RUN echo first >/f' in project.ok('FROM bb AS one\nRUN echo first >/f\nFROM bb\nRUN false\n', '--target', 'one')


@pytest.mark.differs_today('builds every stage up to the target')
def test_stages_that_nobody_needs_are_not_built(project):
    assert 'RUN false' not in project.ok('FROM bb AS unused\nRUN false\nFROM bb AS base\nFROM base\nRUN true\n')


def test_from_scratch(project, docker):
    project.file('busybox', open('/bin/busybox', 'rb').read(), 0o755)
    project.ok('FROM scratch\nCOPY busybox /bin/\nENTRYPOINT ["/bin/busybox"]\n')
    assert project.run('echo', 'alone') == 'alone'
    assert len(project.image['RootFS']['Layers']) == 1


def test_arguments(project):
    text = 'ARG BASE=nothing\nFROM ${BASE}\nARG A=one\nARG B\nRUN echo $A ${B:-none} >/f\n'
    out = project.ok(text, '--build-arg', 'BASE=bb', '--build-arg', 'B=two', '--build-arg', 'C=unknown')
    assert '[Warning] One or more build-args [C] were not consumed' in out
    assert project.run('cat', '/f') == 'one two'
    assert 'Running in' in project.ok(text, '--build-arg', 'BASE=bb', '--build-arg', 'B=three').split('RUN echo')[1]
    assert not [line for line in project.image['Config']['Env'] if line.startswith(('A=', 'B='))]
    history = project.docker.ok('history', '--no-trunc', '--format', '{{.CreatedBy}}', project.name)
    assert '|2 A=one B=three /bin/sh -c echo $A ${B:-none} >/f' in history


def test_triggers(project):
    project.file('f', 'context')
    project.ok('FROM bb\nONBUILD COPY f /f\nONBUILD RUN cat /f >/g\n', tag=project.name + ':base')
    out = project.ok(f'FROM {project.name}:base\nRUN true\n')
    assert '# Executing 2 build triggers' in out
    assert project.run('cat', '/g') == 'context' and not project.image['Config']['OnBuild']


@pytest.mark.berth
def test_a_trigger_needs_a_stage(project):
    project.ok('FROM bb\nONBUILD COPY --from=made /f /g\n', tag=project.name + ':base')
    project.ok(f'FROM bb AS made\nRUN echo by a trigger >/f\nFROM {project.name}:base\n')
    assert project.run('cat', '/g') == 'by a trigger'


def test_labels_of_the_client(project):
    out = project.ok('FROM bb\n', '--label', 'x=y')
    assert 'Step 2/2 : LABEL x=y' in out and project.image['Config']['Labels'] == {'x': 'y'}


@pytest.mark.differs_today('knows no heredocs in its classic builder')
def test_heredocs(project):
    project.ok('FROM bb\nARG W=world\nRUN <<EOF\necho one >/f\necho two >>/f\nEOF\nCOPY <<EOF /g\nhello $W\nEOF\nRUN cat <<X >/h\nraw\nX\n')
    assert project.run('cat', '/f', '/g', '/h').splitlines() == ['one', 'two', 'hello world', 'raw']


# ---- what the client says -------------------------------------------------------------------------------------------

def test_quiet_and_the_image_file(project, tmp_path):
    out = project.ok('FROM bb\nRUN true\n', '-q', '--iidfile', str(tmp_path / 'id'))
    assert out == project.image['Id'] + '\n' and (tmp_path / 'id').read_text().strip() == project.image['Id']


def test_several_tags(project, docker):
    project.ok('FROM bb\nLABEL several=1\n', '-t', project.name + ':two')
    assert docker.inspect(project.name + ':two')['Id'] == project.image['Id']


def test_the_dockerfile_has_another_name(project):
    project.file('sub/Other', 'FROM bb\nCOPY Dockerfile /d\nCMD ["echo", "other"]\n')
    project.ok('FROM nowhere\n', '-f', os.path.join(project.folder, 'sub/Other'))
    assert project.run() == 'other'


def test_ignored_files_are_not_copied(project):
    for name in ('keep', 'drop', 'drop2'):
        project.file(name, name)
    project.file('.dockerignore', 'drop*\n!drop2\nDockerfile\n')
    project.ok('FROM bb\nCOPY . /c/\n')
    assert project.run('ls', '-A', '/c').split() == ['.dockerignore', 'drop2', 'keep']


def test_containers_of_steps_stay_when_asked_for(project, docker):
    project.ok('FROM bb\nRUN true\n', '--rm=false', '--no-cache')
    assert len(docker.ok('ps', '-aq').split()) >= 1


def test_networks_and_limits(project):
    out = project.ok('FROM bb\nRUN ls /sys/class/net; cat /proc/self/limits | grep "open files"; cat /etc/hosts\n', '--network', 'none', '--ulimit', 'nofile=77:88',
                     '--add-host', 'buildhost:10.1.2.3', '--no-cache')
    assert 'eth0' not in out and re.search(r'77 +88 ', out) and '10.1.2.3\tbuildhost' in out
    assert 'eth0' in project.ok('FROM bb\nRUN ls /sys/class/net\n', '--no-cache')


# ---- errors ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('dockerfile, message', [
    ('FROM bb\nFRUN true\n', 'unknown instruction: FRUN'),
    ('', 'cannot be empty'),
    ('RUN true\n', 'no build stage in current context'),
    ('FROM bb\nCOPY nothing /x\n', 'COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist'),
    ('FROM bb\nCOPY *.none /x\n', 'COPY failed: no source files were specified'),
    ('FROM bb\nCOPY --chown=nobody-here Dockerfile /x\n', 'nobody-here'),
    ('FROM bb\nCOPY Dockerfile /etc\nCOPY Dockerfile .dockerignore /x\n', 'the destination must be a directory and end with a /'),
    ('FROM bb\nUSER\n', 'USER requires exactly one argument'),
])
def test_mistakes(project, dockerfile, message):
    project.file('.dockerignore')
    assert message in project.fails(dockerfile)


def test_an_unknown_target(project):
    assert 'nope' in project.fails('FROM bb\n', '--target', 'nope')


def test_a_failing_command(project, docker):
    project.file('Dockerfile', '')
    done = project.build('FROM bb\nRUN echo out; echo err >&2; exit 7\n')
    assert done.returncode == 7
    assert "The command '/bin/sh -c echo out; echo err >&2; exit 7' returned a non-zero code: 7" in done.stderr
    assert 'out\n' in done.stdout and '\x1b[91merr\n\x1b[0m' in done.stdout
    left = docker.ok('ps', '-aq').split()
    assert len(left) == 1
    docker.ok('rm', left[0])
    project.build('FROM bb\nRUN exit 7\n', '--force-rm')
    assert docker.ok('ps', '-aq') == ''


def test_a_missing_image(project):
    assert 'nowhere.invalid' in project.fails('FROM nowhere.invalid/x\n')


# ---- hard to break --------------------------------------------------------------------------------------------------

def staging(docker):
    return os.listdir(os.path.join(docker.engine.data, 'staging'))


def start_long(project, docker):
    project.file('Dockerfile', 'FROM bb\nRUN sleep 1000\n')
    client = subprocess.Popen(project.command('--no-cache'), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=project.environment())
    engines.wait_until(lambda: docker.ok('ps', '-q'), 20, 'the step runs')
    return client


def test_a_client_that_leaves_ends_its_step(project, docker):
    client = start_long(project, docker)
    client.terminate()
    client.wait()
    engines.wait_until(lambda: not docker.ok('ps', '-aq'), 20, 'the container is gone')


@pytest.mark.berth
def test_nothing_is_left_of_a_build_whose_daemon_was_killed(project, docker):
    client = start_long(project, docker)
    docker.engine.kill9()
    client.wait()
    docker.engine.start()
    docker.engine.restarted = True
    assert docker.ok('ps', '-aq') == '' and staging(docker) == []
    project.ok('FROM bb\nRUN true\n')


@pytest.mark.berth
def test_the_context_is_gone_after_a_build(project, docker):
    project.ok('FROM bb\nCOPY Dockerfile /\n')
    assert staging(docker) == []
    project.fails('FROM bb\nRUN exit 1\n')
    assert staging(docker) == []


def context(*entries):
    """A context as bytes: (name, type, data or link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as archive:
        for name, kind, data in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.linkname = data
                archive.addfile(info)
    return out.getvalue()


def post(api, body, **query):
    return api.post('/build?' + urllib.parse.urlencode(query), body, headers={'Content-Type': 'application/x-tar'})


def lines(answer):
    return [json.loads(line) for line in answer.body.decode().splitlines() if line]


@pytest.mark.berth
@pytest.mark.parametrize('name, kind, data', [
    ('../witness', tarfile.REGTYPE, b'overwritten'),
    ('/../../witness', tarfile.REGTYPE, b'overwritten'),
    ('a/../../witness', tarfile.REGTYPE, b'overwritten'),
])
def test_a_context_with_ways_out_is_refused(api, name, kind, data):
    answer = post(api, context(('Dockerfile', tarfile.REGTYPE, b'FROM bb\n'), (name, kind, data)))
    assert answer.status == 400 and 'is outside of' in answer.message


def test_links_out_of_the_context_lead_nowhere(project, tmp_path):
    (tmp_path / 'secret').write_text('secret')
    os.symlink('../secret', os.path.join(project.folder, 'up'))
    os.symlink('/etc', os.path.join(project.folder, 'etc'))
    assert 'COPY failed' in project.fails('FROM bb\nCOPY up /x\n')
    assert 'COPY failed' in project.fails('FROM bb\nCOPY etc/hostname /x\n')
    assert 'COPY failed' in project.fails('FROM bb\nCOPY ../secret /x\n')
    assert 'ADD failed' in project.fails('FROM bb\nADD ../../../../../../etc/hostname /x\n')


@pytest.mark.berth
@pytest.mark.container_only('HostConfig.Mounts')
def test_mounts_do_not_lead_out(project, tmp_path):
    (tmp_path / 'secret').write_text('secret')
    os.symlink('../secret', os.path.join(project.folder, 'up'))
    os.symlink('/etc', os.path.join(project.folder, 'host'))
    for source in ('up', 'host', '../secret', '/../../etc/hostname'):
        assert 'no such file' in project.fails(f'FROM bb\nRUN --mount=type=bind,source={source},target=/x cat /x\n')
    project.ok('FROM bb\nRUN --mount=type=cache,id=../../../../up,target=/x touch /x/y\n')
    assert sorted(os.listdir(tmp_path)) == ['context', 'secret']


@pytest.mark.parametrize('member, kind, data, message', [
    ('../evil', tarfile.REGTYPE, b'x', 'outside'),
    ('a/../../evil', tarfile.REGTYPE, b'x', 'outside'),
    ('.wh.bin', tarfile.REGTYPE, b'', '.wh.'),
])
@pytest.mark.berth
def test_an_archive_that_leads_out(project, member, kind, data, message):
    project.file('x.tar', context((member, kind, data)))
    assert message in project.fails('FROM bb\nADD x.tar /u/\n')


@pytest.mark.berth
def test_an_archive_that_writes_through_its_own_link(project):
    project.file('x.tar', context(('a', tarfile.SYMTYPE, '/etc'), ('a/passwd', tarfile.REGTYPE, b'evil')))
    project.ok('FROM bb\nADD x.tar /u/\n')
    assert 'evil' not in project.run('cat', '/etc/passwd')


def test_a_dockerfile_that_is_a_link_out(api):
    answer = post(api, context(('Dockerfile', tarfile.SYMTYPE, '/etc/passwd')))
    assert answer.status in (400, 500) and 'root' not in answer.message


@pytest.mark.berth
def test_no_context_at_all(api):
    assert (post(api, b'').status, post(api, b'').message) == (400, 'Cannot locate specified Dockerfile: Dockerfile')
    assert post(api, b'no tar ' * 200).status == 400


@pytest.mark.berth
@pytest.mark.parametrize('query, status, message', [
    ({'version': '2'}, 501, 'DOCKER_BUILDKIT=0'),
    ({'version': '3'}, 400, 'invalid version'),
    ({'t': 'UPPER'}, 400, 'must be lowercase'),
    ({'buildargs': '['}, 400, 'error reading build args'),
    ({'labels': '[1]'}, 400, 'error reading labels'),
    ({'ulimits': 'x'}, 400, 'error reading ulimit settings'),
    ({'remote': 'ftp://example.invalid/x'}, 400, 'unsupported protocol scheme'),
    ({'outputs': '[{"Type":"local"}]'}, 501, 'outputs'),
])
def test_queries_that_ask_too_much(api, query, status, message):
    answer = post(api, context(('Dockerfile', tarfile.REGTYPE, b'FROM bb\n')), **query)
    assert answer.status == status and message in answer.message


@pytest.mark.berth
def test_the_stream(api):
    answer = post(api, context(('Dockerfile', tarfile.REGTYPE, b'FROM bb\nRUN exit 3\n')))
    assert answer.status == 200
    said = lines(answer)
    assert said[0] == {'stream': 'Step 1/2 : FROM bb\n'}
    assert said[-1] == {'errorDetail': {'code': 3, 'message': "The command '/bin/sh -c exit 3' returned a non-zero code: 3"},
                        'error': "The command '/bin/sh -c exit 3' returned a non-zero code: 3"}
    said = lines(post(api, context(('Dockerfile', tarfile.REGTYPE, b'FROM bb\nLABEL a=b\n'))))
    assert [list(line) for line in said][-2:] == [['aux'], ['stream']] and re.match('sha256:[0-9a-f]{64}$', said[-2]['aux']['ID'])
    api.delete('/images/' + said[-2]['aux']['ID'])


# ---- the cache, mounts ----------------------------------------------------------------------------------------------

@pytest.mark.differs_today('has no mounts in its classic builder')
@pytest.mark.container_only('HostConfig.Mounts')
def test_mounts(project):
    project.file('sub/f', 'from the context')
    text = ('FROM bb\nRUN --mount=type=cache,target=/c echo x >>/c/runs; wc -l </c/runs >/runs\n'
            'RUN --mount=type=bind,source=sub,target=/b --mount=type=tmpfs,target=/t cat /b/f >/g; touch /t/x; touch /b/x || true\n')
    project.ok(text)
    assert project.run('cat', '/runs', '/g').split('\n') == ['1', 'from the context']
    assert project.run('sh', '-c', 'ls -d /c /b /t 2>/dev/null || echo none') == 'none'
    assert project.ok(text).count('Using cache') == 2
    project.ok(text, '--no-cache')
    assert project.run('cat', '/runs') == '2'
    project.ok('FROM bb AS one\nRUN mkdir /o && echo of a stage >/o/f\nFROM bb\nRUN --mount=type=bind,from=one,source=/o,target=/b --mount=type=bind,rw,source=sub,target=/w '
               '--mount=type=bind,from=one,source=/o/f,target=/file cat /b/f /file >/g; echo changed >/w/f; touch /b/x || true\nCOPY sub/f /h\n')
    assert project.run('sh', '-c', 'cat /g /h; ! ls -d /b /w /file 2>/dev/null').split('\n') == ['of a stage', 'of a stage', 'from the context']
    assert "BuildKit's door" in project.fails('FROM bb\nRUN --mount=type=secret,id=x true\n')


@pytest.mark.differs_today('does not know SOURCE_DATE_EPOCH in its classic builder')
def test_time_is_what_the_client_says(project, docker):
    project.file('f', 'x')
    text = 'FROM bb\nARG SOURCE_DATE_EPOCH\nCOPY f /new/\nWORKDIR /made\nENV A=b\n'
    project.ok(text, '--build-arg', 'SOURCE_DATE_EPOCH=1000000000')
    first = project.image
    assert first['Created'] == '2001-09-09T01:46:40Z'
    os.utime(os.path.join(project.folder, 'f'))
    project.ok(text, '--build-arg', 'SOURCE_DATE_EPOCH=1000000000', '--no-cache')
    assert project.image['Id'] == first['Id']


@pytest.mark.berth
def test_what_the_cache_takes(project, docker, api):
    docker.ok('builder', 'prune', '-af')
    project.ok('FROM bb\nRUN dd if=/dev/urandom of=/f bs=1M count=2\nENV A=b\n')
    rows = [row for row in api.get('/system/df?type=build-cache').json['BuildCache'] if row['Type'] == 'regular']
    assert len(rows) == 2 and {row['Shared'] for row in rows} == {True} and max(row['Size'] for row in rows) >= 2 << 20
    docker.ok('builder', 'prune', '-f', '--filter', 'type=source.local')
    assert project.image['Id'] and docker.ok('builder', 'prune', '-f').endswith('0B')
    docker.ok('rmi', project.name)
    assert '2.' in docker.ok('builder', 'prune', '-f').splitlines()[-1]
    assert api.get('/system/df?type=build-cache').json['BuildCache'] == []
    assert 'Using cache' not in project.ok('FROM bb\nRUN dd if=/dev/urandom of=/f bs=1M count=2\nENV A=b\n')


def test_the_cache_of_an_image(project, docker, tmp_path):
    """What another machine has built is as good: its image comes by load, and nothing else."""
    project.file('f', 'x')
    text = 'FROM bb\nENV A=b\nCOPY --chown=app f /f\nRUN echo $$ $(date +%N) >/g\nCMD cat /g\n'
    project.ok(text, '--no-cache')
    first = project.run()
    docker.ok('save', '-o', str(tmp_path / 'saved.tar'), project.name)
    docker.ok('rmi', project.name)
    docker('builder', 'prune', '-af')
    docker.ok('load', '-i', str(tmp_path / 'saved.tar'))
    docker.ok('tag', project.name, project.name + ':from')
    out = project.ok(text, '--cache-from', project.name + ':from')
    assert out.count('Using cache') == 4 and project.run() == first
    project.file('f', 'changed')
    assert project.ok(text, '--cache-from', project.name + ':from').count('Using cache') == 1


@pytest.mark.long
@pytest.mark.skipif(not os.environ.get('BERTH_E2E_LONG'), reason='installs a compiler: BERTH_E2E_LONG')
def test_a_c_project_of_two_stages(project, docker, debian):
    project.file('src/main.c', '#include <stdio.h>\nint main(void) { puts("built from C"); return 0; }\n')
    project.file('src/Makefile', 'hello: main.c\n\tgcc -static -O2 -o $@ $<\n')
    out = project.ok(f'FROM {debian} AS build\nRUN apt-get -qq update && apt-get -qq install -y --no-install-recommends gcc libc6-dev make >/dev/null\n'
                     'WORKDIR /src\nCOPY src/ ./\nRUN make\nFROM scratch\nCOPY --from=build /src/hello /hello\nENTRYPOINT ["/hello"]\n')
    assert 'Successfully built' in out and project.run() == 'built from C'
    project.file('src/main.c', '#include <stdio.h>\nint main(void) { puts("built again"); return 0; }\n')
    assert project.ok(open(os.path.join(project.folder, 'Dockerfile')).read()).count('Using cache') == 2 and project.run() == 'built again'
