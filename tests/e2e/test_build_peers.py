"""The same Dockerfiles by `docker buildx build` here and on the newest dockerd: the same files, the same configuration."""
import hashlib
import io
import os
import subprocess
import tarfile

import pytest

import conftest
import engines
from test_build import packed
from test_buildx import PLUGINS, in_the_full_run

pytestmark = [pytest.mark.berth, in_the_full_run]

SID = os.path.join(engines.PEERS, 'dockerd-sid')


@pytest.fixture(scope='module')
def peer(busybox, tmp_path_factory):
    """The newest dockerd with the same image."""
    subprocess.run([os.path.join(engines.ROOT, 'tools/peers'), 'dockerd-sid'], check=True, timeout=900)
    subprocess.run([os.path.join(engines.ROOT, 'tools/peers'), 'plugins-sid'], check=True, timeout=900)
    engine = engines.Dockerd(root=SID)
    try:
        engine.start()
        docker = conftest.Docker(engine, engines.default_cli(), str(tmp_path_factory.mktemp('peer')))
        docker.ok('load', input=busybox)
        yield docker
        engine.stop_all()
    finally:
        if engine.process and engine.process.poll() is None:
            engine.process.kill()
            engine.process.wait()
        engine.remove_folder()


FILES = {'a/one': ('1', 0o640), 'a/sub/two': ('2', 0o755), 'a/sub/deep/three.o': ('3', 0o600), 'a/x.o': ('x', 0o644), 'plain.txt': ('p', 0o604), 'other.txt': ('o', 0o644),
         'tool': ('#!/bin/sh\n', 0o700), 'dropped/file': ('d', 0o644)}
LINKS = {'a/link': 'one', 'a/broken': 'nowhere', 'outer': 'plain.txt', 'folder-link': 'a'}
IGNORED = 'dropped\n**/*.tmp\n.dockerignore\nDockerfile\n'

DOCKERFILES = {
    'folders': 'FROM bb\nCOPY a /new\nCOPY a/ /home/\nCOPY a /there/deep/\nCOPY . /all/\n',
    'files': 'FROM bb\nCOPY plain.txt /p\nCOPY plain.txt other.txt /t/\nCOPY *.txt /w/\nCOPY outer /followed\nCOPY folder-link /linked\nCOPY plain.txt /deep/er/name\n'
             'WORKDIR /work/here\nCOPY tool .\nCOPY tool ./renamed\n',
    'owners': 'FROM bb\nRUN mkdir /was && chown 5:6 /was\nCOPY --chown=app a /named\nCOPY --chown=7 plain.txt /number/f\nCOPY --chown=app:extra a/one /was/\nCOPY --chown=8:9 a /was\n'
              'USER app\nWORKDIR /by/user\nCOPY plain.txt .\n',
    'modes': 'FROM bb\nCOPY --chmod=750 a /octal\nCOPY --chmod=u=rwX,go=rX a /change\nCOPY --chmod=+x plain.txt /x\nADD --chmod=4711 tool /set\nCOPY --chmod=g+s,o= a /s\n',
    'excluded': 'FROM bb\nCOPY --exclude=**/*.o a /e\nCOPY --exclude=sub --exclude=!sub/deep a /f\n',
    'archives': 'FROM bb\nADD x.tar /u/\nADD x.tar.gz /v\nADD x.tar plain.txt /w/\nCOPY x.tar /c/\nADD a /folder\nADD --chown=3:4 x.tar /owned/\n',
    'into links': 'FROM bb\nRUN mkdir -p /usr/real/in && ln -s usr/real /way && ln -s /usr/real/in /in && echo old >/usr/real/old && ln -s old /usr/real/to\nCOPY plain.txt /way/\n'
                  'COPY a /way/sub\nCOPY plain.txt /in\nCOPY plain.txt /way/to\n',
    'over': 'FROM bb\nRUN mkdir -p /d/sub && chmod 711 /d /d/sub && echo old >/d/one && ln -s one /d/x.o\nCOPY a /d\n',
    'stages': 'FROM bb AS made\nRUN mkdir -m 700 /out && echo made >/out/f && chown 3:4 /out/f && ln -s f /out/l && ln /out/f /out/hard\nFROM bb\nCOPY --from=made /out /one\n'
              'COPY --from=made /out/ /two/\nCOPY --from=made --chown=9:9 /out/* /three/\nCOPY --from=0 /out/l /four\nCOPY --from=bb /etc/passwd /five/\n',
    'linked': 'FROM bb\nCOPY --link a /l\nCOPY --link --chown=7:8 plain.txt /deep/new/f\nCOPY --link --from=bb /etc/group /g\n',
    'configuration': 'FROM bb\nARG V=1\nENV A=$V B="two words" C=${A:-none}\nENV D=$A-$B\nLABEL x=y "with space"="a b"\nEXPOSE 80 53/udp 8000-8002\nVOLUME /home /tmp\n'
                     'STOPSIGNAL SIGINT\nSHELL ["/bin/sh", "-ec"]\nHEALTHCHECK --interval=5s --retries=3 CMD true\nUSER app\nWORKDIR sub\nCMD echo hi\nONBUILD RUN true\n',
    'entry': 'FROM bb\nENTRYPOINT ["echo", "x"]\nCMD ["y"]\nWORKDIR /a\nWORKDIR b\nWORKDIR /c/e\n',
    'texts': 'FROM bb\nARG W=world\nCOPY <<EOF /f\nhello $W\nEOF\nCOPY --chmod=755 <<"EOF" <<-Two /d/\n$W\nEOF\n\ttab\nTwo\nRUN <<EOF\necho one >/one\numask 077\necho two >/two\nEOF\n',
    'nothing': 'FROM scratch\nCOPY plain.txt /\nCOPY a /a/b\nWORKDIR /w\nLABEL a=b\n',
}


@pytest.fixture(scope='module')
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp('context')
    for path, (text, mode) in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(mode)
    for path, target in LINKS.items():
        os.symlink(target, folder / path)
    (folder / 'a/sub').chmod(0o711)
    (folder / 'a').chmod(0o750)
    (folder / '.dockerignore').write_text(IGNORED)
    (folder / 'x.tar').write_bytes(packed(['in/one', 'two'], 'w'))
    (folder / 'x.tar.gz').write_bytes(packed(['in/one', 'two']))
    return folder


def build(docker, context, name, home):
    plugins = home / '.docker/cli-plugins'
    plugins.mkdir(parents=True)
    os.symlink(os.path.join(PLUGINS, 'docker-buildx'), plugins / 'docker-buildx')
    done = subprocess.run([engines.default_cli(), 'buildx', 'build', '--provenance=false', '-t', name, str(context)], capture_output=True, text=True, timeout=120,
                          env={'PATH': os.environ['PATH'], 'HOME': str(home), 'DOCKER_HOST': 'unix://' + docker.engine.socket})
    assert done.returncode == 0, f'{docker.engine.name}: {done.stderr}'


OF_THE_ENGINE = ('.dockerenv', 'dev', 'proc', 'sys', 'etc', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'etc/mtab')


def tree(docker, name):
    """A line for each file."""
    con = docker.ok('create', name, 'x')
    data = subprocess.run(docker.command('export', con), capture_output=True, check=True, env=docker.environment()).stdout
    docker.ok('rm', con)
    lines = set()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = member.name.strip('/')
            if path in OF_THE_ENGINE or path.startswith(('dev/', 'proc/', 'sys/', 'etc/mtab')) or not path:
                continue
            content = hashlib.sha256(archive.extractfile(member).read()).hexdigest()[:12] if member.isreg() else ''
            kind = b'0' if member.islnk() else member.type  # which of two names comes first is nobody's business
            if member.islnk():
                content = hashlib.sha256(archive.extractfile(member).read()).hexdigest()[:12]
            lines.add(f'{path} {kind.decode()} {member.mode:o} {member.uid}:{member.gid} {member.linkname if member.issym() else ""} {content}')
    return lines


MEMBERS = ('User', 'ExposedPorts', 'Env', 'Entrypoint', 'Cmd', 'Volumes', 'WorkingDir', 'Labels', 'StopSignal', 'Shell', 'Healthcheck', 'OnBuild')


@pytest.mark.parametrize('which', DOCKERFILES)
def test_the_same_image(docker, peer, context, name, tmp_path, which):
    (context / 'Dockerfile').write_text(DOCKERFILES[which])
    found = []
    for number, engine in enumerate((docker, peer)):
        build(engine, context, name, tmp_path / str(number))
        config = engine.inspect(name)['Config']
        found.append((tree(engine, name), {key: config.get(key) or None for key in MEMBERS}))
        engine.ok('rmi', '-f', name)
    (here, ours), (there, theirs) = found
    assert ours == theirs
    assert sorted(here - there) == sorted(there - here) == []
