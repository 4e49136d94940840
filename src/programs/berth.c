// The command line: docker's verbs and flags on the Docker Engine API, see client/client.h.
#include "client/client.h"

int main(int argc, char **argv)
{
    return client_main(argc, argv);
}
