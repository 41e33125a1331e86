// A device plugin that offers GPUs in name only, so that they are counted: gpus COUNT
//
// The kubelet forgets its plugins whenever it starts, so this one registers again with every new
// socket of the kubelet.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	endpoint = "hippo-gpus.sock"
)

type server struct {
	plugin.UnimplementedDevicePluginServer
	devices []*plugin.Device
}

func (s *server) GetDevicePluginOptions(context.Context, *plugin.Empty) (*plugin.DevicePluginOptions, error) {
	return &plugin.DevicePluginOptions{}, nil
}

func (s *server) ListAndWatch(_ *plugin.Empty, stream grpc.ServerStreamingServer[plugin.ListAndWatchResponse]) error {
	if err := stream.Send(&plugin.ListAndWatchResponse{Devices: s.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (s *server) Allocate(_ context.Context, request *plugin.AllocateRequest) (*plugin.AllocateResponse, error) {
	answer := &plugin.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		answer.ContainerResponses = append(answer.ContainerResponses, &plugin.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		})
	}
	return answer, nil
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	devices := make([]*plugin.Device, count)
	for index := range devices {
		devices[index] = &plugin.Device{ID: fmt.Sprintf("gpu-%d", index), Health: plugin.Healthy}
	}
	for {
		kubelet, err := os.Stat(plugin.KubeletSocket)
		if err == nil {
			if err = offer(devices, kubelet); err != nil {
				log.Print(err)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// offer serves until the kubelet has another socket.
func offer(devices []*plugin.Device, kubelet os.FileInfo) error {
	path := plugin.DevicePluginPath + endpoint
	os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	serving := grpc.NewServer()
	plugin.RegisterDevicePluginServer(serving, &server{devices: devices})
	go serving.Serve(listener)
	defer serving.Stop()
	if err := register(); err != nil {
		return err
	}
	log.Printf("%d of %s are offered", len(devices), resource)
	for {
		time.Sleep(200 * time.Millisecond)
		current, err := os.Stat(plugin.KubeletSocket)
		if err != nil || !os.SameFile(current, kubelet) || !current.ModTime().Equal(kubelet.ModTime()) {
			return nil
		}
	}
}

func register() error {
	connection, err := grpc.NewClient(
		"unix://"+plugin.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = plugin.NewRegistrationClient(connection).Register(ctx, &plugin.RegisterRequest{
		Version: plugin.Version, Endpoint: endpoint, ResourceName: resource,
	})
	return err
}
