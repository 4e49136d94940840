"""The same Dockerfiles built here by both doors, by buildx on the newest dockerd, and by the newest buildah: the same files, the same configuration.

Who differs, where and why, is a line of DIFFERS: all else is a failure.
"""
import json
import os
import re
import resource
import subprocess
import tarfile

import pytest

import conftest
import engines
import flat
import images
from test_build import packed
from test_buildx import PLUGINS, in_the_full_run

pytestmark = [pytest.mark.berth, in_the_full_run, pytest.mark.container_only('HostConfig.Mounts')]

TOOLS = os.path.join(engines.ROOT, 'tools/peers')
OLD = 1_500_000_000  # of the context's files


# ---- who builds -----------------------------------------------------------------------------------------------------

class Builder:
    def __init__(self, folder):
        self.folder = folder  # HOME, and what it writes

    def run(self, command, **environment):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                              env={'PATH': os.environ['PATH'], 'HOME': str(self.folder), **environment})
        assert done.returncode == 0, f'{self.name}: {done.stdout}{done.stderr}'
        return done.stdout

    def take(self, name):
        """The image, whole."""
        archive = str(self.folder / 'image.tar')
        self.save(name, archive)
        self.remove(name)
        return flat.read(archive)


class ByDocker(Builder):
    def __init__(self, docker, folder, name):
        super().__init__(folder)
        self.docker, self.name = docker, name
        plugins = folder / '.docker/cli-plugins'
        plugins.mkdir(parents=True)
        if name != 'classic':
            os.symlink(os.path.join(PLUGINS, 'docker-buildx'), plugins / 'docker-buildx')

    def build(self, context, name, options):
        words = ['buildx', 'build', '--provenance=false'] if self.name != 'classic' else ['build']
        self.run([engines.default_cli(), *words, '-t', name, *options, str(context)], DOCKER_HOST='unix://' + self.docker.engine.socket, DOCKER_BUILDKIT='0')

    def save(self, name, archive):
        self.docker.ok('save', '-o', archive, name)

    def remove(self, name):
        self.docker.ok('rmi', '-f', name)


class Buildah(Builder):
    name = 'buildah'

    def __init__(self, folder, busybox):
        super().__init__(folder)
        subprocess.run([TOOLS, 'buildah-sid'], check=True, timeout=900)
        (folder / 'base.tar').write_bytes(busybox)
        self.buildah('pull', f'docker-archive:{folder}/base.tar')

    def buildah(self, *words):
        places = ['--root', f'{self.folder}/root', '--runroot', f'{self.folder}/run', '--storage-driver', 'vfs']
        return self.run([os.path.join(engines.PEERS, 'buildah-sid/enter'), 'buildah', *places, *words])

    def build(self, context, name, options):
        # It raises limits that this machine may not let it raise.
        limits = [f'--ulimit={name}={limit}:{limit}' for name, limit in (('nofile', resource.getrlimit(resource.RLIMIT_NOFILE)[1]), ('nproc', resource.getrlimit(resource.RLIMIT_NPROC)[1]))]
        self.buildah('build', *limits, '--isolation', 'chroot', '--format', 'docker', '--pull=never', '--layers=false', '-t', name, *options, str(context))

    def save(self, name, archive):
        if os.path.exists(archive):
            os.unlink(archive)
        self.buildah('push', name, f'docker-archive:{archive}:{name}:latest')

    def remove(self, name):
        self.buildah('rmi', '-f', name)


@pytest.fixture(scope='module')
def peer(busybox, tmp_path_factory):
    """The newest dockerd with the same image."""
    subprocess.run([TOOLS, 'dockerd-sid', 'plugins-sid'], check=True, timeout=900)
    engine = engines.Dockerd(root=os.path.join(engines.PEERS, 'dockerd-sid'))
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


@pytest.fixture(scope='module')
def builders(docker, peer, busybox, tmp_path_factory):
    folder = tmp_path_factory.mktemp('builders')
    (folder / 'buildah').mkdir()
    return [ByDocker(docker, folder / 'buildx', 'buildx'), ByDocker(docker, folder / 'classic', 'classic'), ByDocker(peer, folder / 'dockerd', 'dockerd'),
            Buildah(folder / 'buildah', busybox)]


# ---- what is built --------------------------------------------------------------------------------------------------

FILES = {'a/one': ('1', 0o640), 'a/sub/two': ('2', 0o755), 'a/sub/deep/three.o': ('3', 0o600), 'a/x.o': ('x', 0o644), 'plain.txt': ('p', 0o604), 'other.txt': ('o', 0o644),
         'tool': ('#!/bin/sh\n', 0o700), 'dropped/file': ('d', 0o644), 'odd/.hidden': ('h', 0o644), 'odd/with space': ('s', 0o644), 'odd/ä\n': ('u', 0o644),
         'odd/[x]*': ('g', 0o644), 'odd/' + 'n' * 120 + '/' + 'm' * 140: ('l', 0o644), 'odd/setuid': ('', 0o6755), 'odd/sticky/f': ('', 0o000)}
LINKS = {'a/link': 'one', 'a/broken': 'nowhere', 'outer': 'plain.txt', 'folder-link': 'a', 'odd/long': 'y' * 150}
IGNORED = 'dropped\n**/*.tmp\n.dockerignore\nDockerfile\n'

DOCKERFILES = {
    'folders': 'FROM bb\nCOPY a /new\nCOPY a/ /home/\nCOPY a /there/deep/\nCOPY . /all/\n',
    'files': 'FROM bb\nCOPY plain.txt /p\nCOPY plain.txt other.txt /t/\nCOPY *.txt /w/\nCOPY outer /followed\nCOPY folder-link /linked\nCOPY plain.txt /deep/er/name\n'
             'WORKDIR /work/here\nCOPY tool .\nCOPY tool ./renamed\n',
    'odd names': 'FROM bb\nCOPY odd /odd\nCOPY ["odd/with space", "/with blank"]\nCOPY odd/[[]x]* /o/\nCOPY odd/.h* /h/\n',
    'owners': 'FROM bb\nRUN mkdir /was && chown 5:6 /was\nCOPY --chown=app a /named\nCOPY --chown=7 plain.txt /number/f\nCOPY --chown=app:extra a/one /was/\nCOPY --chown=8:9 a /was\n'
              'USER app\nWORKDIR /by/user\nCOPY plain.txt .\n',
    'modes': 'FROM bb\nCOPY --chmod=750 a /octal\nADD --chmod=4711 tool /set\nCOPY --chmod=0600 a/one /home/\n',
    'modes in words': 'FROM bb\nCOPY --chmod=u=rwX,go=rX a /change\nCOPY --chmod=+x plain.txt /x\nCOPY --chmod=g+s,o= a /s\n',
    'excluded': 'FROM bb\nCOPY --exclude=**/*.o a /e\nCOPY --exclude=sub --exclude=!sub/deep a /f\n',
    'parents': 'FROM bb\nCOPY --parents a/sub/two a/one /p/\nCOPY --parents ./a/./sub/** /q/\n',
    'archives': 'FROM bb\nADD x.tar /u/\nADD x.tar.gz /v\nADD x.tar plain.txt /w/\nCOPY x.tar /c/\nADD a /folder\nADD --chown=3:4 x.tar /owned/\n',
    'rich archive': 'FROM bb\nADD rich.tar /r/\nADD rich.tar /\n',
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
    'removed': 'FROM bb\nRUN rm -r /var/www /etc/not-a-program && mkdir -p /d/e && echo 1 >/d/e/f\nRUN rm -r /d/e && mkdir /d/e && echo 2 >/d/e/g\nRUN rm -r /home && echo file >/home\n'
               'RUN rm /home && mkdir /home && rm -r /d && ln -s home /d\nCOPY plain.txt /d/\n',
    'by commands': 'FROM bb\nRUN chmod 700 /etc && chmod 4750 /bin/busybox && chown 1:2 /var/www\nRUN chmod 755 /etc; chown -R 0:0 /home/app; mkdir -m 1777 /sticky; mkdir -m 2775 /group\n'
                   'RUN mkfifo /fifo && touch -d @1000000000 /old /tmp && ln -s /nowhere /broken\n',
    'devices': 'FROM bb\nRUN mknod /null c 1 3 && chmod 666 /null && mknod /disk b 7 0\nFROM bb\nCOPY --from=0 /null /disk /kept/\n',
    'hard links': 'FROM bb\nCOPY a/one /one\nRUN ln /one /two && ln /one /var/three && ln /etc/group /group\nRUN echo more >>/two\nRUN rm /one\n',
    'arguments': 'ARG BASE=b\nARG TAG\nFROM b${BASE}:${TAG:-latest} AS first\nARG BASE\nARG ONE=1 TWO="2 ${BASE}"\nARG GIVEN=no\nENV A=${ONE:+set} B=${NONE:-"x y"} C=\'$ONE\' D=\\$ONE E="${TWO}z" '
                 'F=a\\ b G=$GIVEN\nENV LEGACY the rest  of it\nENV ONE=env\nARG ONE=arg\nRUN echo "$ONE $TWO $GIVEN $A" >/args\nLABEL one=$ONE two=${TWO} three="line \\\ncontinued" '
                 '"$ONE"=k\nFROM first\nRUN echo "${TWO-none}" >/unset\nENV H=${TWO:-none} I=$ONE P=$PATH:/more\nARG TARGETARCH\nARG BUILDPLATFORM\nENV T=$TARGETARCH/$BUILDPLATFORM\n',
    'patterns': 'FROM bb\nENV V=/usr/local/lib.tar.gz\nENV A=${V#*/} B=${V##*/} C=${V%.*} D=${V%%.*} E=${V/lib/bin} F=${V//l/L} G=${V#/usr}\nWORKDIR ${V%.tar*}\nCOPY plain.txt ${V##*/}\n',
    'dashes': 'FROM bb\nARG EMPTY=\nENV A=${NONE-none}${EMPTY-x} B=${NONE+set}${EMPTY+set} C=${NONE:-none}${EMPTY:-empty} D=${EMPTY:+x}\n',
    'other escape': '# escape=`\nFROM bb\nENV A=b `\n D=C:\\x\nRUN echo one `\n  && echo "a\\b" >/f\nCOPY plain.txt \\back\n',
    'triggers': 'FROM bb AS base\nONBUILD COPY plain.txt /onbuild/\nONBUILD RUN echo ran >/ran\nONBUILD ENV BY=trigger\nONBUILD WORKDIR /made/by\nFROM base\nRUN echo after >/after\n',
    'users': 'FROM bb\nUSER app\nRUN id >/tmp/one; echo ~ $HOME >/tmp/home; touch /tmp/mine\nUSER 7:8\nRUN id >/tmp/two\nUSER app:extra\nRUN id >/tmp/three && mkdir /tmp/d\nWORKDIR /tmp/d/e\n'
             'USER root\nWORKDIR /by/root\n',
    'folders of work': 'FROM bb\nENV D=deep\nWORKDIR /home/app\nRUN touch here\nWORKDIR $D/er/\nRUN pwd >f\nWORKDIR ..\nWORKDIR ../../../../up\nWORKDIR /var\nWORKDIR /tmp/\nRUN touch x\n',
    'volumes': 'FROM bb\nVOLUME /data\nRUN mkdir -p /data && echo kept >/data/f\nVOLUME ["/var/www", "/with space"]\nRUN echo more >/var/www/more\nCOPY plain.txt /data/\n',
    'shells': 'FROM bb\nSHELL ["/bin/sh", "-euc"]\nRUN echo $0 "$-" >/f\nCMD a b\nENTRYPOINT c $d\nHEALTHCHECK CMD e f\nFROM bb\nENTRYPOINT ["x"]\nCMD ["y", "$z"]\nENTRYPOINT c\nHEALTHCHECK NONE\n',
    'inherited': 'FROM bb AS one\nENV A=1\nUSER app\nWORKDIR /one\nEXPOSE 1\nVOLUME /v\nLABEL l=1\nCMD ["one"]\nSTOPSIGNAL 9\nFROM one AS two\nENV A=2 B=$A\nEXPOSE 2/tcp 1/udp\nLABEL l=2 m=$A\n'
                 'ENTRYPOINT ["two"]\nFROM two\nVOLUME /w\nUSER 0\nCMD three\n',
    'mounts': 'FROM bb AS other\nRUN mkdir /o && echo o >/o/f\nFROM bb\nRUN --mount=type=bind,source=a,target=/m cat /m/one >/one\nRUN --mount=type=tmpfs,target=/t/t touch /t/t/f\n'
              'RUN --mount=type=cache,target=/c,uid=5,mode=711 stat -c "%a %u" /c >/stat; touch /c/f\nRUN --mount=from=other,source=/o,target=/etc/o cat /etc/o/f >/o\n'
              'WORKDIR /w\nRUN --mount=type=bind,target=.,rw touch made; ls >/ls\nRUN --network=none ls /sys/class/net >/nets\n',
    'times': 'FROM bb\nCOPY a /a\nCOPY plain.txt /deep/new/\nADD x.tar /x/\nCOPY --from=bb /var/www /www\nCOPY --chmod=700 a/one /tmp/\nRUN true\n',
    'comments': '# first\n\n#escape=x\nFROM bb\n  # in between\nRUN echo a \\\n# inside\n   b >/f && \\\n\n   echo c >>/f\nENV \\\n  A=1 \\\n  # more\n  B=2\n',
    'bare': 'FROM bb AS tools\nFROM scratch\nCOPY --from=tools /bin /bin\nRUN ["/bin/busybox", "mkdir", "/made"]\n',
    'options': 'FROM bb AS wanted\nARG GIVEN\nRUN echo $GIVEN >/given\nFROM bb\nRUN false\n',
}
OPTIONS = {'arguments': ('--build-arg', 'GIVEN=yes', '--build-arg', 'TAG=latest'),
           'options': ('--build-arg', 'GIVEN=given', '--target', 'wanted', '--label', 'l=of the client', '--label', 'm=1')}


def capability():
    """cap_net_raw=ep, as the kernel keeps it."""
    return bytes.fromhex('0100000200200000000000000000000000000000')


def rich():
    """An archive with all that a tar can say."""
    entries = [images.folder('d', 0o700, 3, 4), images.entry('d/f', data=b'f', mode=0o4755, uid=7, gid=8), images.entry('d/hard', tarfile.LNKTYPE, mode=0o4755, link='d/f', uid=7, gid=8),
               images.entry('d/soft', tarfile.SYMTYPE, link='../x'), images.entry('fifo', tarfile.FIFOTYPE, mode=0o600), images.entry('without/folder', data=b'w'),
               images.entry('n' * 90 + '/' + 'm' * 120, data=b'long'), images.folder('sticky', 0o1777)]
    for info, _ in entries:
        info.mtime = OLD
    entries[1][0].pax_headers = {'SCHILY.xattr.security.capability': capability().decode('latin-1'), 'SCHILY.xattr.user.note': 'of an archive'}
    return images.tar(entries)


@pytest.fixture(scope='module')
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp('context')
    for path, (text, mode) in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
        (folder / path).chmod(mode)
    for path, target in LINKS.items():
        os.symlink(target, folder / path)
    os.link(folder / 'a/one', folder / 'a/twin')
    os.setxattr(folder / 'a/one', 'user.note', b'of the context')
    os.setxattr(folder / 'a/sub/two', 'security.capability', capability())
    (folder / 'a/sub').chmod(0o711)
    (folder / 'a').chmod(0o750)
    (folder / '.dockerignore').write_text(IGNORED)
    (folder / 'x.tar').write_bytes(packed(['in/one', 'two'], 'w'))
    (folder / 'x.tar.gz').write_bytes(packed(['in/one', 'two']))
    (folder / 'rich.tar').write_bytes(rich())
    for parent, folders, names in os.walk(folder, topdown=False):
        for one in folders + names:
            os.utime(os.path.join(parent, one), (OLD, OLD), follow_symlinks=False)
    return folder


# ---- what is compared -----------------------------------------------------------------------------------------------

MEMBERS = ('User', 'ExposedPorts', 'Env', 'Entrypoint', 'Cmd', 'Volumes', 'WorkingDir', 'Labels', 'StopSignal', 'Shell', 'Healthcheck', 'OnBuild')
OF_THE_ENGINE = ('dev', 'proc', 'sys', 'etc', 'etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'etc/mtab', 'run', 'run/secrets', 'var/run', 'bin')  # mount points: their folders' times are the engine's


def settings(config):
    process = config.get('config') or config.get('Config') or {}
    found = {key: process.get(key) or None for key in MEMBERS}
    found['Labels'] = {key: value for key, value in (found['Labels'] or {}).items() if not key.startswith('io.buildah.')} or None
    return {key: json.dumps(value, sort_keys=True) for key, value in found.items()} | {'platform': (config['os'], config['architecture'])}


def lines(tree, config):
    """A line for each thing that is known."""
    out = set()
    for path, known in tree.items():
        for key, value in known.items():
            if key == 'time' and known['kind'] == 'folder':
                key = 'folder time'
            if path not in OF_THE_ENGINE or not key.endswith('time'):
                out.add(f'{path}: {key} {value}')
    return out | {f'config {key}: {value}' for key, value in settings(config).items()}


LACKS = {('parents', 'dockerd'): 'its frontend has the flag in the labs channel alone', ('dashes', 'buildah'): 'knows no ${v-x}', ('modes in words', 'buildah'): 'knows modes in numbers alone',
         ('devices', 'buildah'): 'its chroot lets nobody make devices'}

# (builder, Dockerfiles, lines): what differs from what buildx makes here.
DIFFERS = [
    # Ours, on purpose.
    ('dockerd|buildah', 'modes|times', '(home|tmp): folder time'),  # a folder that was there keeps its time when a file comes into it
    ('dockerd|buildah', 'stages', 'three/.*: same file'),  # names of one file stay names of one file, whichever of them a pattern found
    ('dockerd', 'excluded', 'f/sub: folder time'),  # a folder that is the way to what stays keeps its time
    ('dockerd', 'folders of work', 'config WorkingDir'),  # "/tmp/" is /tmp
    ('dockerd|buildah', 'bare', '(dev|proc|sys): '),  # of what the engine mounts nothing stays where nothing was
    ('dockerd', 'rich archive', '.*: xattrs'),  # an archive's attributes of users are the files' in what is saved, too
    ('dockerd', 'devices', 'kept/disk: kind'),  # a copied disk is a disk
    # buildah's.
    ('buildah', '.*', '.*: (xattrs|folder time)'),  # keeps attributes user.*, and gives folders times of its own
    ('buildah', 'folders|odd names', '.*odd/setuid: mode'),  # loses set-user-ID
    ('buildah', 'modes', 'octal: mode'),  # gives the target's folder no mode
    ('buildah', 'owners', 'by(/user)?: owner'),  # WORKDIR is root's, whoever USER is
    ('buildah', 'archives', 'owned/.*: owner'),  # --chown does not reach into archives
    ('buildah', 'excluded', 'f/sub/two: '),  # an exception brings the whole folder back
    ('buildah', 'into links', 'usr/real/(old|to): '),  # replaces a link that is the target, follows none
    ('buildah', 'configuration', 'config (Cmd|ExposedPorts)'),  # SHELL is not CMD's, a range of ports is one port
    ('buildah', 'configuration|entry|nothing|users|folders of work|inherited', '(sub|a|a/b|c|c/e|w|by|by/root|tmp/d/e|up|one): '),  # WORKDIR makes no folder
    ('buildah', 'hard links', '(two|var/three|etc/group|group): '),  # a link to a file of a lower layer is its own
    ('buildah', 'patterns', '(config Env|usr/local/lib/)'),  # ## takes no longer match than #
    ('buildah', 'other escape', r'(\\?back|config Env)'),  # \ is one all the same
    ('buildah', 'arguments', '(args|unset|config (Env|Labels))'),  # an ENV beats a later ARG of its name, ARGs are not the next stage's
    ('buildah', 'volumes|inherited', '(with space|v): '),  # VOLUME makes the folder
    ('buildah', 'mounts', '(ls|nets): '),  # shows the whole context, and the loopback device alone
]


def is_known(which, builder, line):
    return any(re.fullmatch(who, builder) and re.fullmatch(what, which) and re.match(begin, line) for who, what, begin in DIFFERS)


@pytest.mark.parametrize('which', DOCKERFILES)
def test_the_same_image(builders, context, name, which):
    (context / 'Dockerfile').write_text(DOCKERFILES[which])
    found = {}
    for builder in builders:
        if (which, builder.name) not in LACKS:
            builder.build(context, name, OPTIONS.get(which, ()))
            found[builder.name] = lines(*builder.take(name))
    ours, wrong = found.pop('buildx'), []
    for builder, theirs in found.items():
        wrong += [f'{builder} only: {line}' for line in sorted(theirs - ours) if not is_known(which, builder, line)]
        wrong += [f'not {builder}: {line}' for line in sorted(ours - theirs) if not is_known(which, builder, line)]
    assert not wrong, '\n'.join(wrong)


# ---- what is said ---------------------------------------------------------------------------------------------------

LINTED = [
    'FROM bb as One\nMAINTAINER me\nRUN echo $PATH $WHAT\nENV old way\nEXPOSE 80/TCP\nWORKDIR rel\nCOPY a$WHO $PAHT /x/\nCMD true\nCMD ["x"]\nENTRYPOINT y\n',
    'ARG BASE\nFROM --platform=linux/amd64 bb AS scratch\nCOPY dropped /d\nfrom bb AS two\nARG API_TOKEN=x\nENV PASSWORD=y\nFROM --platform=$TARGETPLATFORM bb AS two\nRUN echo a \\\n\n  b\n',
    '# check=skip=FromAsCasing;experimental=InvalidDefinitionDescription\n# a remark\nFROM bb as one\n# what it is\nARG X=1\n',
    '# check=error=true\nFROM bb as one\nMAINTAINER me\n',
]

WRONG = ['FROM bb\nFRUN true\n', 'FROM bb\nCOPY --from=5 / /x\n', 'FROM bb\nRUN echo x && exit 7\n', 'FROM bb\nRUN --mount=type=secret,id=x,required true\n',
         'FROM bb\nRUN --mount=type=odd true\n', 'FROM bb\nRUN --mount=target=/x,odd=1 true\n', 'FROM bb\nCOPY <<EOF /x\nno end\n', 'FROM ${NONE}\n', 'FROM bb\nRUN --network=odd true\n',
         'FROM bb\nENV A\n', 'FROM bb\nUSER\n', 'RUN true\n', 'FROM bb\nONBUILD FROM x\n', 'FROM bb\nHEALTHCHECK --interval=x CMD y\n', 'FROM bb\nEXPOSE 99999\n', 'FROM bb\nSHELL x\n',
         'FROM bb\nCOPY a\n', 'FROM bb\nARG V=${X:?is needed}\nRUN true\n', 'FROM bb AS 1x\n', 'FROM bb\nSTOPSIGNAL ODD\n', 'FROM bb\nVOLUME []\n', 'FROM bb\nCOPY --chmod=9 a /x\n',
         'FROM bb\nRUN --mount=from=later,target=/x true\nFROM bb AS later\n', 'FROM bb\nADD --unpack=x a /x\n', 'FROM bb\nWORKDIR\n',
         '# one\nFROM bb AS a\nRUN echo 1 && \\\n  # in between\n  false\nFROM a\nRUN true\n\n\nUSER x', 'FROM bb\nRUN <<E\necho\nexit 3\nE\nUSER x\n',
         'FROM bb\nRUN exit "3"\n', 'FROM bb\nADD --checksum=md5:00 http://127.0.0.1:1/x /\n', 'FROM bb\nADD --checksum=sha256:00 http://127.0.0.1:1/x /\n']
SHOWN_HERE = 'FROM bb\nCOPY --from=5 / /x\n'  # BuildKit shows no line of it


def said(builder, context, text, *options):
    (context / 'Dockerfile').write_text(text)
    done = subprocess.run([engines.default_cli(), *options, 'buildx', 'build', '--provenance=false', str(context)], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
                          env={'PATH': os.environ['PATH'], 'HOME': str(builder.folder), 'DOCKER_HOST': 'unix://' + builder.docker.engine.socket})
    return done.stderr


def warnings(text):
    """Each with what belongs to it; the client shuffles them. And the error, of which --debug shows where it came from."""
    plain = re.sub(r'\x1b\[[0-9;]*m', '', text)
    shown = re.search(r'(?s)\d+ warnings? found:\n.*', plain.partition('\nERROR: ')[0])
    return sorted(part.strip() for part in re.split(r'(?m)^ - ', shown[0] if shown else '')) + re.findall(r'(?m)^ERROR: .*', plain)


def test_the_same_warnings(builders, context):
    here, there = builders[0], builders[2]
    for text in LINTED:
        ours, theirs = (warnings(said(builder, context, text, '--debug')) for builder in (here, there))
        assert not [f'ours: {one}' for one in ours if one not in theirs] + [f'theirs: {one}' for one in theirs if one not in ours]
        assert len(ours) > 1


def last_words(text):
    """The error, and the lines of the Dockerfile that are shown above it."""
    return re.findall(r'(?ms)^Dockerfile:\d+\n-+\n.*?^-+$', text) + re.findall(r'(?m)^ERROR: .*$', text)


def test_the_same_errors(builders, context):
    here, there = builders[0], builders[2]
    different = [(text, ours, theirs) for text in WRONG
                 if (ours := last_words(said(here, context, text))[-1 if text == SHOWN_HERE else 0:]) != (theirs := last_words(said(there, context, text)))]
    assert not different, '\n'.join(f'{text!r}\n   ours: {ours}\n theirs: {theirs}' for text, ours, theirs in different)
